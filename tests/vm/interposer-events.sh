#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: the original is removed or resized under a target: errors as for a plain device, and detaching is possible
# needs: dmsetup mkfs.ext4 fio
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

lb_load_interposer
test_resize
test_rescan
test_removal
lb_unload_interposer
