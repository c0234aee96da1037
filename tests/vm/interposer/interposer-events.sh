#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: the original is resized, rescanned, removed, hung, an md, zoned; the target fails or needs its original: undone, detach always
# needs: dmsetup mkfs.ext4 e2fsck fio sfdisk blkzone jq losetup qemu-img qemu-nbd
# one-thread: yes
# timeout: 600
# cpus: 1
# disks: 256M 256M
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/interposer/lib.sh
. tests/vm/interposer/lib.sh

linear() { # NAME DEVICE
	blk-interpose create "$1" --table "0 $(bi_sectors "$2") linear [interpose]$2 0"
}

wait_for() { # COMMAND...
	for _ in {1..100}; do
		! "$@" >/dev/null 2>&1 || return 0
		sleep 0.1
	done
	lb_fail "does not come: $*"
}

test_resize() {
	lb_step "a larger original"
	local ram lower
	ram=$(lb_ramdisk 64)
	dmsetup create grow --table "0 65536 linear $ram 0"
	linear top /dev/mapper/grow
	lower=$(blk-interpose list --json | sed -n 's/.*"lower": "\(.*\)",/\1/p')
	dmsetup reload grow --table "0 131072 linear $ram 0"
	dmsetup resume grow
	# shellcheck disable=SC2016 # expanded by the other shell
	wait_for bash -c 'test "$(blockdev --getsz "$1")" = 131072' - "$lower"
	blk-interpose status top | grep -q "another size" || lb_fail "status does not tell"
	# Beyond the target's end there are errors until its table is as large.
	must_fail "." dd if=/dev/mapper/grow of=/dev/null bs=4k skip=10000 count=1 iflag=direct status=none
	dmsetup reload top --table "0 131072 linear $lower 0"
	dmsetup suspend top
	dmsetup resume top
	dd if=/dev/mapper/grow of=/dev/null bs=4k skip=10000 count=1 iflag=direct status=none
	blk-interpose remove top
	dmsetup remove grow
	bi_none_left
}

test_rescan() {
	lb_step "partitions are read again"
	bi_partition /dev/vda
	linear top /dev/vda1
	must_fail "busy" blockdev --rereadpt /dev/vda
	blk-interpose remove top
	linear top /dev/vda
	blockdev --rereadpt /dev/vda || true
	dd if=/dev/vda1 of=/dev/null bs=4k count=8 iflag=direct status=none
	blk-interpose remove top
	bi_none_left
}

test_removal() {
	lb_step "the disk is pulled from under a mounted file system"
	local pci status=0
	bi_mkfs ext4 /dev/vdb
	mount /dev/vdb "$bi_mnt"
	linear top /dev/vdb
	fio --name=pull --directory="$bi_mnt" --size=8m --rw=randwrite --bs=4k --direct=1 --ioengine=io_uring --iodepth=8 \
		--time_based --runtime=600 --output=/dev/null 2>/dev/null &
	local load=$!
	sleep 1
	pci=$(readlink -f /sys/block/vdb/device/..)
	echo 1 >"$pci/remove"
	wait "$load" || status=$?
	[ "$status" != 0 ] || lb_fail "fio goes on writing to a disk that is gone"
	blk-interpose status top | grep -q "has been removed" || lb_fail "status does not tell"
	blk-interpose remove top
	bi_none_left
	umount "$bi_mnt" || true
}

# A write cache that is turned on or off below.
test_cache() {
	lb_step "the write cache is turned off and on"
	local queue=/sys/block/vda/queue lower
	linear top /dev/vda
	lower=/sys/block/$(basename "$(blk-interpose list --json | sed -n 's/.*"lower": "\(.*\)",/\1/p')")/queue
	[ "$(<"$lower/write_cache")" = "$(<"$queue/write_cache")" ] || lb_fail "another cache than the original's"
	echo "write through" >"$queue/write_cache"
	wait_for grep -q through "$lower/write_cache"
	echo "write back" >"$queue/write_cache"
	wait_for grep -q back "$lower/write_cache"
	blk-interpose remove top
	bi_none_left
}

# With errors from above that the file system does not survive, a target can still be taken out.
test_failing_target() {
	lb_step "a target that fails everything under a mounted file system"
	bi_mkfs ext4 /dev/vda
	mount -o errors=continue /dev/vda "$bi_mnt"
	linear top /dev/vda
	dd if=/dev/urandom of="$bi_mnt/f" bs=64k count=4 status=none
	dmsetup reload top --table "0 $(bi_sectors /dev/vda) error"
	dmsetup suspend --nolockfs top
	dmsetup resume top
	must_fail "." dd if=/dev/urandom of="$bi_mnt/g" bs=64k count=4 conv=fsync status=none
	blk-interpose remove top
	bi_none_left
	# The page cache reports the errors of before, once.
	blockdev --flushbufs /dev/vda || true
	dd if=/dev/vda of=/dev/null bs=64k count=4 iflag=direct status=none || lb_fail "the disk still fails"
	umount "$bi_mnt"
}

# Two mirrors, without mdadm. Writes to md are counted by md, and reach both.
test_md() {
	lb_step "an md is the original"
	local a b before md=/sys/block/md127/md
	bi_has_driver raid1 || return 0
	a=$(lb_ramdisk 16) b=$(lb_ramdisk 16)
	echo md127 >/sys/module/md_mod/parameters/new_array
	echo none >"$md/metadata_version"
	echo raid1 >"$md/level"
	echo 2 >"$md/raid_disks"
	for n in "$a" "$b"; do lsblk -dno MAJ:MIN "$n" | tr -d ' ' >"$md/new_dev"; done
	n=0
	for dev in "$md"/dev-*; do
		echo $n >"$dev/slot"
		n=$((n + 1))
	done
	echo 16384 >"$md/component_size"
	echo active >"$md/array_state"
	[ -b /dev/md127 ] || mknod /dev/md127 b 9 127
	wait_for grep -q idle "$md/sync_action"
	before=$(bi_reads)
	fio --name=md --filename=/dev/md127 --size=8m --rw=randrw --bsrange=4k-64k --ioengine=io_uring --iodepth=8 --fdatasync=4 \
		--direct=1 --verify=crc32c --verify_fatal=1 --time_based --runtime=3600 --output="$lb_state/fio" &
	local pid=$!
	bi_await_fio "$pid" "$before"
	for _ in 1 2; do
		linear top /dev/md127
		blk-interpose remove top
	done
	bi_end_fio "$pid"
	cmp -n $((8 << 20)) "$a" "$b" || lb_fail "the mirrors differ"
	[ "$(bi_inflight /dev/md127)" = 0 ] || lb_fail "md counts I/O that is no more"
	echo clear >"$md/array_state"
	bi_none_left
}

test_zoned() {
	lb_step "a zoned disk is the original"
	modprobe null_blk nr_devices=1 gb=1 zoned=1 zone_size=16 memory_backed=1 max_sectors=256 ||
		lb_fail "no zoned disk"
	local zones before
	zones() { blkzone report "$1" | sed 's/, *reset.*//'; }
	dd if=/dev/urandom of=/dev/nullb0 bs=64k count=4 oflag=direct status=none
	linear top /dev/nullb0
	zones=$(blk-interpose list --json | sed -n 's/.*"lower": "\(.*\)",/\1/p')
	[ "$(<"/sys/block/$(basename "$zones")/queue/zoned")" = host-managed ] || lb_fail "the lower disk is not zoned"
	before=$(bi_written /dev/mapper/top)
	# Goes on at the write pointer, and not where it was; then the zone is reset, and finished.
	dd if=/dev/urandom of=/dev/nullb0 bs=64k count=4 seek=4 oflag=direct status=none
	must_fail "rror" dd if=/dev/urandom of=/dev/nullb0 bs=64k count=1 seek=12 oflag=direct status=none
	[ "$(($(bi_written /dev/mapper/top) - before))" -ge 512 ] || lb_fail "writes go past the target"
	cmp <(zones /dev/nullb0) <(zones "$zones") || lb_fail "the zones of the lower disk are others"
	blkzone reset -o 0 -c 1 /dev/nullb0
	blkzone report -o 0 -c 1 /dev/nullb0 | grep -q "em(1)\|(em)" || lb_fail "the zone is not empty: $(blkzone report -c 1 /dev/nullb0)"
	dd if=/dev/urandom of=/dev/nullb0 bs=64k count=4 oflag=direct status=none
	blk-interpose remove top
	dd if=/dev/urandom of=/dev/nullb0 bs=64k count=4 seek=4 oflag=direct status=none
	rmmod null_blk
	bi_none_left
}

# All transitions wait for the pairs' lists, and none may wait there for a disk that does not answer.
test_hung_disk() {
	lb_step "a disk that cannot be opened stops nobody else"
	local loop id lower reader maker lister
	modprobe loop
	dmsetup create hung --table "0 $(bi_sectors /dev/vdb) linear /dev/vdb 0"
	loop=$(losetup -f --show -P --direct-io=on /dev/mapper/hung)
	exec 7<"$loop"
	dmsetup suspend --nolockfs hung
	# Holds the disk's lock while it reads.
	blockdev --rereadpt "$loop" &
	reader=$!
	sleep 1
	interposer-call create fd:7 >"$lb_state/made" &
	maker=$!
	sleep 1
	{ kill -0 "$reader" && kill -0 "$maker"; } || lb_fail "the disk answers"
	blk-interpose list >/dev/null &
	lister=$!
	sleep 5
	! kill -0 "$lister" 2>/dev/null || lb_fail "a list of all pairs waits for a disk that does not answer"
	# The same disk has one to be, another one can have its own.
	linear top /dev/vda
	blk-interpose remove top
	dmsetup resume hung
	wait "$reader" "$maker" || lb_fail "no pair for the disk that was slow"
	read -r id lower <"$lb_state/made"
	interposer-call destroy "$id"
	exec 7<&-
	losetup -d "$loop"
	dmsetup remove hung
	bi_none_left
}

# 32 reads at a time, of which the disk takes two: there is always one that has not been sent on.
# How long the tool's processes take says more of the emulation than of the gate.
must_be_short() {
	local line held
	line=$(cat)
	held=$(sed -n 's/.* held back for \([0-9]*\)\..*/\1/p' <<<"$line")
	[ "${held:-999999}" -lt 1000 ] || lb_fail "the gate was not reopened soon: $line"
}

test_zoned_load() {
	lb_step "a zoned disk is read and written without pause"
	local i before after pid writer
	modprobe null_blk nr_devices=1 gb=1 zoned=1 zone_size=16 memory_backed=1 hw_queue_depth=2 submit_queues=1 irqmode=2 \
		completion_nsec=3000000 || lb_fail "no zoned disk"
	dd if=/dev/urandom of="$lb_state/zone" bs=16k count=32 status=none
	before=$(bi_reads)
	fio --name=zones --filename=/dev/nullb0 --size=8m --rw=randread --bs=4k --ioengine=io_uring --iodepth=32 --direct=1 \
		--time_based --runtime=3600 --output="$lb_state/fio" &
	pid=$!
	bi_await_fio "$pid" "$before"
	# Eight writes to a zone at a time, that fail when one overtakes another.
	fio --name=writes --filename=/dev/nullb0 --zonemode=zbd --offset=128m --size=256m --rw=write --bs=4k \
		--ioengine=libaio --iodepth=8 --direct=1 --output="$lb_state/fio.writes" &
	writer=$!
	for i in 2 3 4; do
		# Zones are 16 MiB; it writes on while the target comes and goes.
		dd if="$lb_state/zone" of=/dev/nullb0 bs=16k seek=$((i * 1024)) oflag=direct conv=notrunc status=none &
		linear top /dev/nullb0 | must_be_short
		sleep 1
		before=$(blk-interpose list --json | jq '.[0].parked')
		sleep 1
		after=$(blk-interpose list --json | jq '.[0].parked')
		[ "$before" = "$after" ] || lb_fail "the gate is open, and $((after - before)) bios were held back in a second"
		blk-interpose remove top | must_be_short
		wait $! || lb_fail "a write to a zone has failed"
		dd if=/dev/nullb0 bs=16k skip=$((i * 1024)) count=32 iflag=direct status=none | cmp - "$lb_state/zone" ||
			lb_fail "zone $i does not hold what was written"
	done
	kill -INT "$writer" || lb_fail "the writes to zones have stopped: $(tail -n 20 "$lb_state/fio.writes")"
	wait "$writer" || true
	grep -q 'err= 0' "$lb_state/fio.writes" || lb_fail "a write to a zone has failed: $(tail -n 20 "$lb_state/fio.writes")"
	bi_end_fio "$pid"
	rmmod null_blk
	bi_none_left
}

# A driver that neither counts nor completes at once: what is in flight cannot be waited for.
test_blind() {
	lb_step "a driver that does not count"
	modprobe null_blk nr_devices=1 gb=1 queue_mode=0 irqmode=2 completion_nsec=100000 || lb_fail "no null_blk"
	# From 6.9 on null_blk is no such driver.
	[ -d /sys/block/nullb0/mq ] || must_fail "does not count" linear top /dev/nullb0
	rmmod null_blk
	bi_none_left
}

# It does not count either, but is done when it returns. On 6.1 some of its I/O goes another way, and that is said.
test_brd() {
	lb_step "brd is the original"
	modprobe brd
	linear top /dev/ram15
	case $(uname -r) in
	6.1.*) blk-interpose status top | grep -q rw_page || lb_fail "status does not warn" ;;
	*) ! blk-interpose status top | grep -q warning || lb_fail "status warns: $(blk-interpose status top)" ;;
	esac
	blk-interpose remove top
	bi_none_left
}

# A snapshot whose store needs the disk that is snapshotted, by ways that the module cannot see: it is given up, and all
# goes on. The module is asked directly, as the tool refuses what it finds.
give_up() { # STORE [--no-freeze]
	local store=$1 id lower begun sectors
	shift
	sectors=$(bi_sectors /dev/vda)
	# What an earlier one has stored there would not have to be stored again.
	dd if=/dev/zero of="$store" bs=64k count=16 conv=fsync,notrunc status=none
	read -r id lower < <(interposer-call create /dev/vda)
	dmsetup create mon --table "0 $sectors snapshot $lower $store P 16"
	dmsetup create mon-origin --table "0 $sectors snapshot-origin $lower"
	begun=$(cut -d. -f1 /proc/uptime)
	must_fail "step 8 reason 20.*timed out" interposer-call "$@" attach "$id" /dev/mapper/mon-origin 2000
	(($(cut -d. -f1 /proc/uptime) - begun < 20)) || lb_fail "that has taken $(($(cut -d. -f1 /proc/uptime) - begun)) s"
	dd if=/dev/urandom of="$bi_mnt/after" bs=64k count=4 conv=fsync status=none
	dmsetup remove mon-origin
	dmsetup remove mon
	interposer-call destroy "$id"
	bi_none_left
}

not_open() { # DM-NAME
	[ "$(dmsetup info -c --noheadings -o open "$1")" = 0 ]
}

# What an attach has given up arrives at the lower disk when others have written to the same place.
test_late() {
	lb_step "a first write that comes too late"
	local id lower store sectors
	sectors=$(bi_sectors /dev/vda)
	modprobe dm-snapshot
	store=$(lb_ramdisk 16)
	dmsetup create slow --table "0 $(bi_sectors "$store") linear $store 0"
	dd if=/dev/urandom of="$lb_state/new" bs=4k count=1 status=none
	read -r id lower < <(interposer-call create /dev/vda)
	dmsetup create mon --table "0 $sectors snapshot $lower /dev/mapper/slow P 16"
	dmsetup create mon-origin --table "0 $sectors snapshot-origin $lower"
	dmsetup suspend --nolockfs slow
	must_fail "step 8 reason 20" interposer-call attach "$id" /dev/mapper/mon-origin 1000
	dd if="$lb_state/new" of=/dev/vda oflag=direct conv=notrunc status=none
	must_fail "step 1 reason 19" interposer-call attach "$id" /dev/mapper/mon-origin 1000
	dmsetup resume slow
	wait_for not_open mon-origin
	lb_step "a target that may still write back what it was given then"
	must_fail "error" dd if="$lb_state/new" of=/dev/mapper/mon-origin oflag=direct conv=notrunc status=none
	must_fail "step 1 reason 17" interposer-call attach "$id" /dev/mapper/mon-origin 1000
	dmsetup remove mon-origin
	dmsetup remove mon
	dmsetup create again --table "0 $sectors linear $lower 0"
	dd if="$lb_state/new" of=/dev/mapper/again oflag=direct conv=notrunc status=none
	interposer-call attach "$id" /dev/mapper/again 1000
	interposer-call detach "$id" 1000 >/dev/null
	dmsetup remove again
	wait_for interposer-call destroy "$id"
	dd if=/dev/vda iflag=direct bs=4k count=1 status=none | cmp - "$lb_state/new" ||
		lb_fail "an attach that was given up has written what was there before"
	dmsetup remove slow
	bi_none_left
}

test_store_below() {
	lb_step "a store on the file system that is frozen for it"
	local sum loop overlay
	modprobe -a dm-snapshot loop nbd
	lb_load
	lb_insmod loop-copy
	bi_mkfs ext4 /dev/vda
	mount /dev/vda "$bi_mnt"
	dd if=/dev/urandom of="$bi_mnt/kept" bs=64k count=64 conv=fsync status=none
	sum=$(sha256sum <"$bi_mnt/kept")
	truncate -s 40M "$bi_mnt/store"
	echo "a file of loop-copy"
	loop=$(blk-copy loop attach "$bi_mnt/store")
	give_up "$loop"
	blk-copy loop detach "$loop"
	echo "a device of dm-qcow2"
	lb_image "$bi_mnt/store.qcow2" 40M
	lb_attach store "$bi_mnt/store.qcow2"
	give_up /dev/mapper/store
	lb_detach store
	lb_check "$bi_mnt/store.qcow2"
	echo "a file that has been deleted"
	loop=$(losetup -f --show "$bi_mnt/store")
	rm "$bi_mnt/store"
	give_up "$loop"
	# Not frozen, but written to through the disk whose I/O is held back.
	give_up "$loop" --no-freeze
	losetup -d "$loop"
	echo "an overlayfs"
	overlay=$(lb_overlay "$bi_mnt")
	truncate -s 40M "$overlay/store"
	loop=$(losetup -f --show "$overlay/store")
	give_up "$loop"
	losetup -d "$loop"
	umount "$overlay"
	echo "a network block device"
	truncate -s 40M "$bi_mnt/store"
	mkdir -p /run/lock
	qemu-nbd -f raw -c /dev/nbd0 --cache=none "$bi_mnt/store" >/dev/null
	wait_for dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct status=none
	give_up /dev/nbd0
	qemu-nbd -d /dev/nbd0 >/dev/null
	echo 1 >/proc/sys/vm/drop_caches
	[ "$(sha256sum <"$bi_mnt/kept")" = "$sum" ] || lb_fail "a file has changed"
	umount "$bi_mnt"
	bi_fsck ext4 /dev/vda
}

lb_load_interposer
test_resize
test_rescan
test_cache
test_failing_target
test_md
test_zoned
test_zoned_load
test_hung_disk
test_blind
test_brd
test_store_below
test_late
test_removal
lb_unload_interposer
