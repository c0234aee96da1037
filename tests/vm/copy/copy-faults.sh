#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: after errors, signals, a full or a dead file system the count of a copy is true, and nothing else has changed
# needs: dmsetup fsfreeze jq filefrag xfs_io mkfs.xfs mkfs.ext4 xfs_repair
# timeout: 900
# mem: 3G
# cpus: 1
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/copy/lib.sh
. tests/vm/copy/lib.sh

io_error='Input/output error'
seed=${LIVEBLK_SEED:-$((RANDOM * 32768 + RANDOM))}

save() { dd if="$1" of="$4" bs=64k iflag=skip_bytes,count_bytes,direct skip="$2" count="$3" status=none; } # DEVICE OFFSET BYTES FILE

# What it says of itself, of a copy that has to fail.
failed_copy() { # ARGUMENT...
	if blk-copy --json "$@" >/run/outcome 2>/run/said; then lb_fail "did not fail: blk-copy $*"; fi
	jq -r .bytes /run/outcome
}

test_injected() {
	lb_step "errors that null-copy was asked for"
	local disk count
	disk=$(cp_null faulty size=64)
	cp_fill "$disk" 0 $((32 * mib))
	save "$disk" $((16 * mib)) $((8 * mib)) /run/old
	save "$disk" 0 $((8 * mib)) /run/new
	cp_fault faulty "copy $((18 * mib)) 4096 after 1536"
	# The fault is in the third MiB of the destination: what the driver has been given at once ends after 1536 bytes.
	count=$(failed_copy "$disk" "$disk:16m" 8m)
	[ "$count" = 1536 ] || lb_fail "$count bytes are said to be copied"
	copy-old-or-new "$disk" $((16 * mib)) /run/old /run/new "$count" | grep "2048 blocks old, 0 new" || lb_fail "more than that was copied"
	[ "$(cp_attr "$disk" failed)" = 1 ] || lb_fail "failed is $(cp_attr "$disk" failed)"
	cp_fault faulty clear
	# Pieces of 1 MiB: two are done before the one with the fault.
	echo $mib >"/sys/block/${disk#/dev/}/copy/max_bytes"
	cp_fault faulty "copy $((18 * mib)) 4096 fail"
	[ "$(failed_copy "$disk" "$disk:16m" 8m)" = $((2 * mib)) ] || lb_fail "$(cat /run/outcome)"
	# A driver that fails is not gone around.
	[ "$(failed_copy --emulate=auto "$disk:2m" "$disk:18m" 1m)" = 0 ] || lb_fail "$(cat /run/outcome)"
	cp_fault faulty clear
	cp_fault faulty "read $((3 * mib)) 512 fail"
	[ "$(failed_copy --emulate=always "$disk" "$disk:16m" 8m)" = $((3 * mib)) ] || lb_fail "$(cat /run/outcome)"
	cp_fault faulty clear
	cp_fault faulty "write $((21 * mib)) 512 after 65536"
	[ "$(failed_copy --emulate=always "$disk" "$disk:16m" 8m)" = $((5 * mib)) ] || lb_fail "$(cat /run/outcome)"
	copy-old-or-new "$disk" $((16 * mib)) /run/old /run/new $((5 * mib))
	cp_null_remove faulty
}

# Sends a signal into a copy and looks at what it says.
interrupt() { # DEVICE ARGUMENT...
	local device=$1 copier count status=0
	shift
	blk-copy --json "$@" >/run/outcome 2>/run/said &
	copier=$!
	sleep 1
	kill -INT "$copier"
	wait "$copier" || status=$?
	[ "$status" = 1 ] || lb_fail "ended with $status"
	grep -q interrupted /run/said || lb_fail "$(cat /run/said)"
	count=$(jq -r .bytes /run/outcome)
	((count < 16 * mib)) || lb_fail "it was not interrupted"
	copy-old-or-new "$device" $((16 * mib)) /run/old /run/new "$count"
}

test_signals() {
	lb_step "signals"
	local disk waiting
	disk=$(cp_null slow size=64)
	cp_fill "$disk" 0 $((32 * mib))
	save "$disk" $((16 * mib)) $((16 * mib)) /run/old
	save "$disk" 0 $((16 * mib)) /run/new
	echo $mib >"/sys/block/${disk#/dev/}/copy/max_bytes"
	cp_fault slow "copy 0 $((64 * mib)) delay 300000"
	interrupt "$disk" "$disk" "$disk:16m" 16m
	cp_fault slow clear
	cp_fault slow "write 0 $((64 * mib)) delay 300000"
	save "$disk" $((16 * mib)) $((16 * mib)) /run/old
	interrupt "$disk" --emulate=always "$disk" "$disk:16m" 16m
	# One that waits for another's range has done nothing.
	blk-copy --emulate=always "$disk" "$disk:16m" 8m &
	waiting=$!
	sleep 0.5
	timeout -s INT 1 blk-copy --json "$disk:48m" "$disk:20m" 1m >/run/outcome 2>/run/said || true
	grep -q interrupted /run/said || lb_fail "it did not wait: $(cat /run/said)"
	[ "$(jq -r .bytes /run/outcome)" = 0 ] || lb_fail "$(cat /run/outcome)"
	wait "$waiting"
	cp_same "$disk" 0 "$disk" $((16 * mib)) $((8 * mib))
	cp_null_remove slow
}

test_removal() {
	lb_step "a disk that is removed in the middle of copies"
	local disk copiers=() modes=(never never never always) i
	disk=$(cp_null gone size=64 submit_queues=2)
	echo $mib >"/sys/block/${disk#/dev/}/copy/max_bytes"
	# Pieces go one by one; none of the copies may be over by the time of the removal.
	cp_fault gone "any 0 $((64 * mib)) delay 400000"
	for i in 0 1 2 3; do
		blk-copy --emulate="${modes[i]}" "$disk:${i}m" "$disk:$((i * 8 + 8))m" 8m \
			2>/run/said$i &
		copiers+=($!)
	done
	sleep 0.5
	cp_null_remove gone
	for i in 0 1 2 3; do
		if wait "${copiers[i]}"; then lb_fail "copy $i was done on a disk that is gone"; fi
		grep -qE "$io_error|No such device" "/run/said$i" || lb_fail "$(cat "/run/said$i")"
	done
	[ ! -e "$disk" ] || lb_fail "$disk is still there"
}

# Half a MiB of the disk below cannot be read, a MiB into the file.
make_hole() { # DISK FILE
	local block all=$((128 * 2048))
	sync "$2"
	block=$(filefrag -v -b4096 "$2" | awk '$1 ~ /^[0-9]+:$/ { gsub(/[.:]/, " "); if (256 >= $2 && 384 <= $3) print $4 + 256 - $2 }')
	[ -n "$block" ] || lb_fail "the file is in pieces: $(filefrag -v "$2")"
	dmsetup suspend below
	dmsetup reload below --table "0 $((block * 8)) linear $1 0
$((block * 8)) 1024 error
$((block * 8 + 1024)) $((all - block * 8 - 1024)) linear $1 $((block * 8 + 1024))"
	dmsetup resume below
}

below_up() { # DISK
	dmsetup create below --table "0 $((128 * 2048)) linear $1 0"
}

# below_becomes ARGUMENT...: another table, with what is under way going on
below_becomes() {
	dmsetup suspend --nolockfs below
	dmsetup reload below --table "0 $((128 * 2048)) $*"
	dmsetup resume below
}

test_unreadable() { # FILE-SYSTEM
	lb_step "an unreadable place below $1"
	local disk count mnt=/run/faulty
	below_up "$ram"
	mkdir -p "$mnt"
	case $1 in
	ext4) mkfs.ext4 -q -F -b 4096 /dev/mapper/below ;;
	xfs) mkfs.xfs --unsupported -q -f /dev/mapper/below ;;
	esac
	mount /dev/mapper/below "$mnt"
	fallocate -l 32M "$mnt/disk"
	disk=$(cp_loop "$mnt/disk")
	cp_fill "$disk" 0 $((16 * mib))
	save "$disk" $((8 * mib)) $((4 * mib)) /run/old
	save "$disk" 0 $((4 * mib)) /run/new
	make_hole "$ram" "$mnt/disk"
	if [ "$1" = xfs ]; then
		# What is shared is not read; who reads it finds the same.
		blk-copy "$disk" "$disk:8m" 4m
		must_fail "$io_error" dd if="$disk" of=/dev/null bs=4k skip=$((9 * 256)) count=1 iflag=direct status=none
		cp_same "$disk" 0 "$disk" $((8 * mib)) $mib
	else
		count=$(failed_copy "$disk" "$disk:8m" 4m)
		((count <= mib)) || lb_fail "$count bytes are said to be copied, and one MiB can be read"
		copy-old-or-new "$disk" $((8 * mib)) /run/old /run/new "$count"
	fi
	cp_loop_detach "$disk"
	umount "$mnt"
	dmsetup remove below
}

# Copies until the file system below is gone, then looks at it after a mount.
test_shutdown() { # FILE-SYSTEM MKFS-ARGUMENT...
	lb_step "$1 is shut down in the middle of copies"
	local disk copier status=0 mnt=/run/faulty fs=$1
	shift
	below_up "$ram"
	"mkfs.$fs" -q "$@" /dev/mapper/below
	mount /dev/mapper/below "$mnt"
	truncate -s 48M "$mnt/disk"
	disk=$(cp_loop "$mnt/disk")
	cp_fill "$disk" 0 $((32 * mib))
	save "$disk" $((16 * mib)) $((16 * mib)) /run/old
	save "$disk" 0 $((16 * mib)) /run/new
	save "$disk" 0 $((16 * mib)) /run/source
	sync "$disk"
	# Here and there, so that both ways are in the middle of something.
	(
		while blk-copy "$disk" "$disk:16m" 16m && blk-copy "$disk:512" "$disk:32m" 4m; do :; done
	) 2>/run/said &
	copier=$!
	sleep "$((RANDOM % 2)).$((RANDOM % 9))"
	xfs_io -x -c "shutdown" "$mnt" >/dev/null
	wait "$copier" || status=$?
	grep -qE "$io_error" /run/said || lb_fail "$(cat /run/said)"
	cp_loop_detach "$disk"
	umount "$mnt"
	mount /dev/mapper/below "$mnt"
	disk=$(cp_loop "$mnt/disk")
	copy-old-or-new "$disk" $((16 * mib)) /run/old /run/new
	copy-old-or-new "$disk" 0 /run/source /run/source $((16 * mib))
	cp_loop_detach "$disk"
	umount "$mnt"
	dmsetup remove below
}

# Writes below fail for some seconds: the journal with them.
test_flakey() { # FILE-SYSTEM
	lb_step "writes below $1 fail (dm-flakey)"
	local disk mnt=/run/faulty
	below_up "$ram"
	case $1 in
	ext4) mkfs.ext4 -q -F /dev/mapper/below ;;
	xfs) mkfs.xfs --unsupported -q -f /dev/mapper/below ;;
	esac
	mount /dev/mapper/below "$mnt"
	truncate -s 48M "$mnt/disk"
	disk=$(cp_loop "$mnt/disk")
	cp_fill "$disk" 0 $((32 * mib))
	save "$disk" $((16 * mib)) $((16 * mib)) /run/old
	save "$disk" 0 $((16 * mib)) /run/new
	sync "$disk"
	below_becomes flakey "$ram" 0 0 60 1 error_writes
	# Where it is shared nothing is written, and it cannot be made durable.
	if blk-copy "$disk" "$disk:16m" 16m 2>/run/said; then
		must_fail "" sync "$disk"
	else
		grep -q "$io_error" /run/said || lb_fail "$(cat /run/said)"
	fi
	below_becomes linear "$ram" 0
	cp_loop_detach "$disk"
	umount "$mnt"
	mount /dev/mapper/below "$mnt"
	disk=$(cp_loop "$mnt/disk")
	copy-old-or-new "$disk" $((16 * mib)) /run/old /run/new
	cp_same "$disk" 0 "$disk" 0 $mib
	cp_loop_detach "$disk"
	umount "$mnt"
	dmsetup remove below
}

check() { # DEVICE OPTION...
	blk-difftest "$1" --model "$models/model" --seed $((seed += 1)) --copies 60 --mix 20,30,0,2,1 --jobs 3 \
		--max-size 256k --cluster-size 4k "${@:2}" 2>&1 || lb_fail "seed $seed"
}

a_file() { # MOUNTED [overlay]
	local dir=$1
	[ "$2" != overlay ] || dir=$(lb_overlay "$1")
	echo "$dir/disk"
}

# XFS keeps the blocks that a write which fails has filled, and would take from there what surrounds the next one.
test_leftovers() { # DEVICE [overlay]
	lb_step "what a write leaves behind on $1 that fails for want of space${2:+, below overlayfs}"
	local dir=/run/leftovers file disk i
	mkdir -p "$dir"
	mkfs.xfs -q -f "$1"
	mount "$1" "$dir"
	file=$(a_file "$dir" "${2:-}")
	truncate -s 24M "$file"
	disk=$(cp_loop "$file")
	cp_fill "$disk" 0 $((8 * mib))
	# Extents of 64 KiB: there is room for some of those that a write of 1 MiB covers.
	for ((i = 0; i < 64; i++)); do blk-copy "$disk:$((i * 131072))" "$disk:$((8 * mib + i * 65536))" 64k; done
	sync "$disk"
	fallocate -l $(($(df --output=avail -B1 "$dir" | tail -n 1) - mib)) "$dir/ballast"
	if dd if=/dev/urandom of="$disk" bs=1M seek=8 count=4 iflag=fullblock oflag=direct conv=notrunc status=none \
		2>/run/said; then lb_fail "it did not become full"; fi
	grep -q "No space left" /run/said || lb_fail "$(cat /run/said)"
	rm "$dir/ballast"
	# A hole takes the place of what is shared.
	blk-copy "$disk:16m" "$disk:8m" 4m
	sync "$dir"
	for ((i = 0; i < 64; i++)); do
		dd if=/dev/zero of="$disk" bs=512 seek=$((8 * 2048 + i * 128 + 3)) count=1 oflag=direct conv=notrunc status=none
	done
	cmp -n $((4 * mib)) "$disk" /dev/zero --ignore-initial=$((8 * mib)):0 || lb_fail "there is what was never written"
	cp_loop_detach "$disk"
	umount -R "$dir"
}

# Parts of blocks of a file that shares some go through the page cache. What cannot be written there is not reported as
# written: neither where the rest of the block has to be read first, nor in a hole, where it is tried at once, nor where
# a copy ends there, for which overlayfs has a way of its own. Nor is it left in the page cache, for the next write to
# another part of the same block to take along.
test_lost_page() { # [overlay]
	local disk file mnt=/run/faulty at
	lb_step "parts of blocks that cannot be written${1:+, below overlayfs}"
	below_up "$ram"
	mkfs.xfs --unsupported -q -f /dev/mapper/below
	mount /dev/mapper/below "$mnt"
	file=$(a_file "$mnt" "${1:-}")
	truncate -s 24M "$file"
	disk=$(cp_loop "$file")
	cp_fill "$disk" 0 $mib
	blk-copy "$disk" "$disk:8m" 1m
	sync "$disk"
	below_becomes flakey "$ram" 0 0 60 1 error_writes
	for at in 8 16; do
		must_fail "$io_error" dd if=/dev/urandom of="$disk" bs=512 seek=$((at * 2048 + 3)) count=1 oflag=direct \
			conv=notrunc status=none
		must_fail "$io_error" blk-copy "$disk:4608" "$disk:$((at * mib + 66048))" 3k
	done
	below_becomes linear "$ram" 0
	# It was for the pages, not for a file system that has shut down; in the same pages as what has failed.
	dd if="$disk" of="$disk" bs=512 skip=4 seek=$((8 * 2048 + 4)) count=1 iflag=direct oflag=direct conv=notrunc \
		status=none || lb_fail "the file system is of no use any more"
	dd if=/dev/zero of="$disk" bs=512 seek=$((16 * 2048 + 4)) count=1 oflag=direct conv=notrunc status=none
	cp_loop_detach "$disk"
	umount -R "$mnt"
	mount /dev/mapper/below "$mnt"
	file=$(a_file "$mnt" "${1:-}")
	disk=$(cp_loop "$file")
	cp_same "$disk" 0 "$disk" $((8 * mib)) $mib
	cmp -n $mib "$disk" /dev/zero --ignore-initial=$((16 * mib)):0 || lb_fail "something was written"
	cp_loop_detach "$disk"
	umount -R "$mnt"
	dmsetup remove below
}

# A write that has failed and cleans up after itself must not be in the way.
freeze_now_and_then() { # DIRECTORY STOPFILE
	while [ ! -e "$2" ]; do
		fsfreeze -f "$1"
		fsfreeze -u "$1"
		sleep 0.2
	done
}

test_full() {
	lb_step "a file system that becomes full while extents are unshared, seed $seed"
	local dir disk freezer
	dir=$(lb_scratch 300 xfs)
	truncate -s 24M "$dir/disk"
	disk=$(cp_loop "$dir/disk")
	check "$disk" --ops 300
	fallocate -l $(($(df --output=avail -B1 "$dir" | tail -n 1) - mib)) "$dir/ballast"
	rm -f /run/stop
	freeze_now_and_then "$dir" /run/stop &
	freezer=$!
	check "$disk" --ops 3000 --tolerate ENOSPC | tee /run/said
	touch /run/stop
	wait "$freezer"
	grep -qE ' [1-9][0-9]* failed as tolerated' /run/said || lb_fail "it did not become full"
	rm "$dir/ballast"
	check "$disk" --ops 500
	rm "$models/model"
	cp_loop_detach "$disk"
	umount "$dir"
}

cp_load loop-copy null-copy
modprobe dm-flakey || lb_fail "no dm-flakey"
models=$(lb_scratch 64 tmpfs)
ram=$(lb_ramdisk 128)
modprobe xfs
modprobe ext4
test_injected
test_signals
test_removal
test_unreadable ext4
test_unreadable xfs
test_shutdown ext4 -F
test_shutdown xfs -f --unsupported
test_flakey ext4
test_flakey xfs
test_lost_page
test_lost_page overlay
roomy=$(lb_ramdisk 300)
test_leftovers "$roomy" overlay
# There it fails when the call is long over.
modprobe dm-delay || lb_fail "no dm-delay"
dmsetup create later --table "0 $(blockdev --getsz "$roomy") delay $roomy 0 0 $roomy 0 3"
test_leftovers /dev/mapper/later
dmsetup remove later
test_full
test_full
cp_unload loop-copy null-copy
