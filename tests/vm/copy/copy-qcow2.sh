#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: copies on dm-qcow2 go to its store, into clusters that are new or shared, also while tables are reloaded
# needs: qemu-img jq dmsetup filefrag mkfs.xfs mkfs.ext4
# cpus: 1
# timeout: 400
# mem: 3G
# debug: yes
set -eu -o pipefail
# shellcheck source=tests/vm/copy/lib.sh
. tests/vm/copy/lib.sh

name=copy0
device=/dev/mapper/$name
seed=${LIVEBLK_SEED:-$((RANDOM * 32768 + RANDOM))}
ops=1500
[ "${LIVEBLK_FULL:-0}" != 1 ] || ops=200000
[ ! -e /sys/kernel/debug/kmemleak ] || ops=400

offloaded() { # ARGUMENT...: bytes that did not go through reads and writes
	local json
	json=$(blk-copy --json "$@") || lb_fail "blk-copy $*"
	jq .offloaded <<<"$json"
}

# A file of cp has no extent size hint, as those of qemu-img have: with one, nothing is shared on XFS below 6.12.
image_to_share() { # FILE SIZE [OPTION]...
	lb_image "$1.made" "${@:2}"
	cp "$1.made" "$1"
	rm "$1.made"
}

test_store() { # IMAGE
	lb_step "data, zeros, and what was never written"
	lb_attach "$name" "$1"
	cp_fill "$device" 0 $((4 * mib))
	[ "$(offloaded "$device" "$device:16m" 4m)" = $((4 * mib)) ] || lb_fail "not all was offloaded"
	cp_same "$device" 0 "$device" $((16 * mib)) $((4 * mib))
	if [ -f "$1" ]; then
		sync "$1"
		filefrag -v "$1" | grep -q shared || lb_fail "nothing is shared in the file: $(filefrag -v "$1")"
	fi
	# Parts of clusters: over what is there, and into new ones.
	blk-copy "$device:512" "$device:16779776" 100k
	cp_same "$device" 512 "$device" 16779776 $((100 * 1024))
	blk-copy "$device:512" "$device:24m" 100k
	cp_same "$device" 512 "$device" $((24 * mib)) $((100 * 1024))
	[ "$(cp_sum "$device" $((24 * mib + 100 * 1024)) 4096)" = "$(head -c 4096 /dev/zero | sha256sum)" ] ||
		lb_fail "what follows in the cluster is no zeros"
	# Nothing over something is nothing.
	blk-copy "$device:32m" "$device:16m" 4m
	[ "$(cp_sum "$device" $((16 * mib)) $((4 * mib)))" = "$(head -c $((4 * mib)) /dev/zero | sha256sum)" ] ||
		lb_fail "zeros were not copied"
	# After a snapshot the clusters of both sides are shared with it.
	dmsetup suspend "$name"
	[ ! -f "$1" ] || qemu-img snapshot -c before "$1"
	dmsetup resume "$name"
	sum=$(cp_sum "$device" 0 $((4 * mib)))
	blk-copy "$device:1m" "$device:2m" 1m
	blk-copy "$device:1m" "$device:40m" 1m
	cp_same "$device" $mib "$device" $((2 * mib)) $mib
	cp_same "$device" $mib "$device" $((40 * mib)) $mib
	lb_detach "$name"
	lb_check "$1"
	[ -f "$1" ] || return 0
	qemu-img snapshot -a before "$1"
	lb_attach "$name" "$1"
	[ "$(cp_sum "$device" 0 $((4 * mib)))" = "$sum" ] || lb_fail "the snapshot has changed"
	lb_detach "$name"
	lb_check "$1"
}

check() { # IMAGE OPTION...
	local image=$1
	shift
	lb_step "random operations, seed $seed"
	lb_attach "$name" "$image"
	blk-difftest "$device" --model "$models/model" --seed "$seed" --ops "$ops" --copies 40 --mix 25,25,7,9,1 --jobs 3 \
		--max-size 128k --strict --initial read "$@" 2>&1 || lb_fail "seed $seed"
	lb_detach "$name"
	lb_check "$image"
	qemu-img compare -q -f raw -F qcow2 "$models/model" "$image" || lb_fail "seed $seed: the image is not what the model says"
	rm "$models/model"
	seed=$((seed + 1))
}

# Large clusters are shared below, and not copied, when one of their bytes is written after a snapshot.
test_cow() { # IMAGE
	lb_step "copy-on-write by the file system below"
	local i before after rest=()
	lb_attach "$name" "$1"
	cp_fill "$device" 0 $((16 * mib))
	for ((i = 0; i < 8; i++)); do rest+=("$(cp_sum "$device" $((i * 2 * mib + 8192)) $((2 * mib - 8192)))"); done
	sum=$(cp_sum "$device" 0 $((16 * mib)))
	dmsetup suspend "$name"
	qemu-img snapshot -c before "$1"
	dmsetup resume "$name"
	sync "$1"
	before=$(df --output=avail -B1 "$(dirname "$1")" | tail -n 1)
	for ((i = 0; i < 8; i++)); do cp_fill "$device" $((i * 2 * mib + 4096)) 4096; done
	lb_detach "$name"
	sync "$1"
	after=$(df --output=avail -B1 "$(dirname "$1")" | tail -n 1)
	echo "8 clusters of 2 MiB took $((before - after)) bytes"
	((before - after < 8 * mib)) || lb_fail "nothing was shared"
	lb_check "$1"
	lb_attach "$name" "$1"
	# What was not written is as it was.
	for ((i = 0; i < 8; i++)); do
		[ "$(cp_sum "$device" $((i * 2 * mib + 8192)) $((2 * mib - 8192)))" = "${rest[i]}" ] ||
			lb_fail "cluster $i is another"
	done
	lb_detach "$name"
	qemu-img snapshot -a before "$1"
	lb_attach "$name" "$1"
	[ "$(cp_sum "$device" 0 $((16 * mib)))" = "$sum" ] || lb_fail "the snapshot has changed"
	lb_detach "$name"
	lb_check "$1"
}

# Copies go on over suspends, over new tables, and never land in the old place.
test_reload() { # IMAGE
	lb_step "tables are reloaded under copies, seed $seed"
	local job n=0 tables
	lb_attach "$name" "$1"
	blk-difftest "$device" --model "$models/model" --seed "$seed" --ops 1000000 --seconds $((ops / 100 + 10)) \
		--copies 60 --mix 15,25,0,2,1 --jobs 3 --max-size 128k --buffered 0 --initial read >/run/difftest 2>&1 &
	job=$!
	tables=("$(lb_table "$1")" "$(lb_table "$1" cache_kib 64)")
	while kill -0 "$job" 2>/dev/null; do
		if ((n % 2)); then dmsetup reload "$name" --table "${tables[n / 2 % 2]}"; fi
		dmsetup suspend "$name"
		# Whoever tampers with the image now must not be overwritten by a copy that was under way.
		cp --sparse=always "$1" /run/image.before
		sleep 0.1
		cmp "$1" /run/image.before || lb_fail "somebody wrote to a suspended image"
		dmsetup resume "$name"
		n=$((n + 1))
		sleep 0.2
	done
	wait "$job" || { cat /run/difftest; lb_fail "seed $seed"; }
	cat /run/difftest
	((n > 3)) || lb_fail "only $n suspends"
	lb_detach "$name"
	lb_check "$1"
	qemu-img compare -q -f raw -F qcow2 "$models/model" "$1" || lb_fail "seed $seed: the image is not what the model says"
	rm "$models/model"
	echo "$n suspends"
}

# A copy that comes while the device is suspended waits for the table that follows, whatever it is.
test_wait() { # IMAGE OTHER-DISK
	lb_step "a copy waits for a resume"
	local copier
	lb_attach "$name" "$1"
	cp_fill "$device" 0 $mib
	dmsetup suspend "$name"
	blk-copy "$device" "$device:8m" 1m &
	copier=$!
	sleep 1
	kill -0 "$copier" 2>/dev/null || lb_fail "it did not wait"
	dmsetup resume "$name"
	wait "$copier"
	cp_same "$device" 0 "$device" $((8 * mib)) $mib
	dmsetup suspend "$name"
	blk-copy "$device" "$device:8m" 1m 2>/run/said &
	copier=$!
	timeout -s INT 1 blk-copy "$device" "$device:16m" 1m 2>/run/interrupted || true
	grep -q interrupted /run/interrupted || lb_fail "it was not interrupted: $(cat /run/interrupted)"
	dmsetup reload "$name" --table "0 $(blockdev --getsz "$device") linear $2 0"
	sum=$(cp_sum "$2" 0 $((16 * mib)))
	dmsetup resume "$name"
	if wait "$copier"; then lb_fail "it was done by a table that cannot"; fi
	grep -q "no driver copies" /run/said || lb_fail "$(cat /run/said)"
	[ "$(cp_sum "$2" 0 $((16 * mib)))" = "$sum" ] || lb_fail "the other disk has changed"
	dmsetup remove "$name"
	lb_check "$1"
}

# A table with a smaller image comes while a piece waits for the page cache: what is beyond its end is not copied.
test_shrink() { # IMAGE SMALLER-IMAGE
	lb_step "the device shrinks under a copy"
	local copier
	lb_attach "$name" "$2"
	cp_fill "$device" 0 $mib
	lb_detach "$name"
	lb_attach "$name" "$1"
	cp_fill "$device" 0 $mib
	exec 7<>"$device"
	dmsetup suspend "$name"
	# What is dirty cannot be written before the resume. Nothing else holds the copy up.
	dd if=/dev/zero of="$device" bs=4k seek=$(((24 * mib - mib / 2) / 4096)) count=1 conv=notrunc status=none
	blk-copy --json "$device" "$device:$((24 * mib - mib / 2))" 1m >/run/outcome 2>/run/said &
	copier=$!
	sleep 1
	kill -0 "$copier" 2>/dev/null || lb_fail "it did not wait: $(cat /run/said)"
	dmsetup reload "$name" --table "$(lb_table "$2")"
	dmsetup resume "$name"
	if wait "$copier"; then lb_fail "it was done beyond the end"; fi
	grep -q "Input/output error" /run/said || lb_fail "$(cat /run/said)"
	[ "$(jq .bytes /run/outcome)" = 0 ] || lb_fail "$(cat /run/outcome)"
	exec 7>&-
	lb_detach "$name"
	lb_check "$1"
	lb_check "$2"
	# Nothing was put there: with a size that reaches so far there is a hole.
	qemu-img resize -q "$2" 32M
	[ "$(qemu-img map --output=json "$2" | jq '[.[] | select(.start + .length > 24 * 1048576 and .data)] | length')" = 0 ] ||
		lb_fail "there are clusters beyond the end"
}

# Who interrupts a copy interrupts what the disks below do of it.
test_interrupt() { # DISK
	lb_step "a signal reaches the disks below"
	local copier began count
	lb_attach "$name" "$1"
	cp_fill "$device" 0 $((8 * mib))
	cp_fill "$device" $((16 * mib)) $((8 * mib))
	echo 65536 >"/sys/block/${1#/dev/}/copy/max_bytes"
	cp_fault store "copy 0 $((96 * mib)) delay 300000"
	blk-copy --json "$device" "$device:16m" 8m >/run/outcome 2>/run/said &
	copier=$!
	sleep 2
	began=$(cut -d. -f1 /proc/uptime)
	kill -INT "$copier"
	wait "$copier" || true
	(($(cut -d. -f1 /proc/uptime) - began < 4)) || lb_fail "it took $(($(cut -d. -f1 /proc/uptime) - began)) s"
	grep -q interrupted /run/said || lb_fail "$(cat /run/said)"
	count=$(jq .bytes /run/outcome)
	((count < 8 * mib)) || lb_fail "it was not interrupted"
	cp_fault store clear
	cp_same "$device" 0 "$device" $((16 * mib)) "$count"
	cat "/sys/block/${1#/dev/}/copy/max_hw_bytes" >"/sys/block/${1#/dev/}/copy/max_bytes"
	lb_detach "$name"
	lb_check "$1"
}

# A suspend does not wait for the rest of a piece, which is copied after the resume.
test_pause() { # DISK
	lb_step "a suspend in the middle of a piece"
	local copier began
	lb_attach "$name" "$1"
	cp_fill "$device" 0 $((8 * mib))
	cp_fill "$device" $((16 * mib)) $((8 * mib))
	echo 65536 >"/sys/block/${1#/dev/}/copy/max_bytes"
	cp_fault store "copy 0 $((96 * mib)) delay 300000"
	blk-copy "$device" "$device:16m" 8m &
	copier=$!
	sleep 2
	began=$(cut -d. -f1 /proc/uptime)
	dmsetup suspend "$name"
	(($(cut -d. -f1 /proc/uptime) - began < 6)) || lb_fail "it took $(($(cut -d. -f1 /proc/uptime) - began)) s"
	kill -0 "$copier" 2>/dev/null || lb_fail "the copy has ended"
	cp_fault store clear
	dmsetup resume "$name"
	wait "$copier"
	cp_same "$device" 0 "$device" $((16 * mib)) $((8 * mib))
	cat "/sys/block/${1#/dev/}/copy/max_hw_bytes" >"/sys/block/${1#/dev/}/copy/max_bytes"
	lb_detach "$name"
	lb_check "$1"
}

# Who waits for a suspended device holds nothing of the device above.
test_pause_below() { # DISK
	lb_step "the device below is suspended"
	local copier reader
	lb_attach below "$1"
	qemu-img create -q -f qcow2 /dev/mapper/below 40M
	lb_attach "$name" /dev/mapper/below
	cp_fill "$device" 0 $((2 * mib))
	blk-copy "$device" "$device:16m" 2m
	cp_fill "$device" 0 $((2 * mib))
	exec 7<>"$device"
	dd if="$device" of=/dev/null bs=4k skip=1024 count=1 status=none
	dmsetup suspend below
	blk-copy "$device" "$device:16m" 2m &
	copier=$!
	sleep 1
	dd if="$device" of=/dev/null bs=4k skip=1024 count=1 status=none &
	reader=$!
	sleep 2
	kill -0 "$copier" 2>/dev/null || lb_fail "the copy did not wait"
	! kill -0 "$reader" 2>/dev/null || lb_fail "a read of what is in the page cache hangs"
	dmsetup resume below
	wait "$copier"
	wait "$reader"
	exec 7>&-
	cp_same "$device" 0 "$device" $((16 * mib)) $((2 * mib))
	# To where there are no clusters yet, and with no tables in memory: nothing is begun, so that it can be killed.
	dmsetup suspend "$name"
	dmsetup resume "$name"
	dmsetup suspend below
	blk-copy "$device" "$device:24m" 1m &
	copier=$!
	sleep 1
	kill -KILL "$copier"
	for _ in {1..50}; do
		kill -0 "$copier" 2>/dev/null || break
		sleep 0.1
	done
	! kill -0 "$copier" 2>/dev/null || lb_fail "it cannot be killed"
	wait "$copier" || true
	dmsetup resume below
	lb_detach "$name"
	lb_check /dev/mapper/below
	lb_detach below
	lb_check "$1"
}

# A read that takes locks of two page caches in the other order.
test_mapping() { # DISK
	lb_step "the disk below is read into memory that is mapped from the device"
	local reader copies=0
	lb_attach "$name" "$1"
	cp_fill "$device" 0 $((2 * mib))
	copy-reader-into-mapping "$1" "$device" 8 &
	reader=$!
	while kill -0 "$reader" 2>/dev/null; do
		blk-copy "$device" "$device:16m" 2m
		copies=$((copies + 1))
	done
	wait "$reader"
	echo "$copies copies"
	((copies > 3)) || lb_fail "that is not enough"
	cp_same "$device" 0 "$device" $((16 * mib)) $((2 * mib))
	lb_detach "$name"
	lb_check "$1"
}

# One copy within the device, and one from the disk below to the same place: the first hands pieces on to where the second
# reads, and the second waits for the first.
test_circle() { # DISK
	lb_step "copies of a device and of the disk below it"
	local above below i
	qemu-img create -q -f qcow2 "$1" 48M
	lb_attach "$name" "$1"
	# From the last to the first, so that each cluster is a piece of its own.
	for i in {9..0}; do cp_fill "$device" $((i * 65536)) 65536; done
	cp_fault store "copy 0 $((96 * mib)) delay 300000"
	blk-copy "$device" "$device:16m" 640k &
	above=$!
	sleep 1
	blk-copy --emulate=auto "$1" "$device:16m" 8m &
	below=$!
	wait "$above"
	wait "$below"
	cp_fault store clear
	lb_detach "$name"
	lb_check "$1"
}

lb_load
cp_configfs
lb_insmod loop-copy null-copy
models=$(lb_scratch 100 tmpfs)
xfs=$(lb_scratch 400 xfs)
ext4=$(lb_scratch 150 ext4)
image_to_share "$xfs/a.qcow2" 48M
test_store "$xfs/a.qcow2"
check "$xfs/a.qcow2"
image_to_share "$xfs/d.qcow2" 48M -o cluster_size=2M
test_cow "$xfs/d.qcow2"
check "$xfs/d.qcow2" --cluster-size 2m
rm "$xfs/d.qcow2"
lb_image "$ext4/b.qcow2" 48M -o cluster_size=4k
check "$ext4/b.qcow2" --cluster-size 4k
lb_image "$xfs/c.qcow2" 48M -o cluster_size=16k
test_reload "$xfs/c.qcow2"

lb_image "$xfs/e.qcow2" 48M
lb_image "$xfs/f.qcow2" 24M
test_shrink "$xfs/e.qcow2" "$xfs/f.qcow2"

lb_step "on a block device that copies, and on one that does not"
disk=$(cp_null store size=96)
qemu-img create -q -f qcow2 "$disk" 48M
test_store "$disk"
(($(cp_attr "$disk" offloaded) >= 4 * mib)) || lb_fail "the store has copied $(cp_attr "$disk" offloaded) bytes"
check "$disk"
test_interrupt "$disk"
test_pause "$disk"
test_pause_below "$disk"
qemu-img create -q -f qcow2 "$disk" 48M
test_mapping "$disk"
test_circle "$disk"
ram=$(lb_ramdisk 96)
test_wait "$disk" "$ram"
cp_null_remove store
qemu-img create -q -f qcow2 "$ram" 48M
lb_attach "$name" "$ram"
cp_fill "$device" 0 $mib
must_fail "no driver copies" blk-copy "$device" "$device:8m" 1m
blk-copy --emulate=auto "$device" "$device:8m" 1m
cp_same "$device" 0 "$device" $((8 * mib)) $mib
lb_detach "$name"
lb_check "$ram"
rmmod loop-copy null-copy
lb_unload
