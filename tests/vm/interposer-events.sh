#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: the original is resized, rescanned, removed, an md, zoned; the target fails: errors as for a plain device, detach always
# needs: dmsetup mkfs.ext4 e2fsck fio sfdisk blkzone
# one-thread: yes
# timeout: 400
# disks: 256M 256M
# debug: yes
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh
# shellcheck source=tests/vm/interposer-lib.sh
. tests/vm/interposer-lib.sh

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
	dmsetup mknodes grow
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

lb_load_interposer
test_resize
test_rescan
test_cache
test_failing_target
test_md
test_zoned
test_blind
test_brd
test_removal
lb_unload_interposer
