#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: who uses the original: what cannot be redirected is refused by name; LVM on top of an interposed disk and below one
# needs: dmsetup mkfs.ext4 e2fsck resize2fs jq python3 pvcreate vgcreate lvcreate lvextend
# timeout: 600
# cpus: 1
# disks: 512M 256M
# append: memmap=64M!1G
# one-thread: yes
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/interposer/lib.sh
. tests/vm/interposer/lib.sh
# shellcheck source=tests/lib/lvm.sh
. tests/lib/lvm.sh

linear() { # NAME DEVICE
	blk-interpose create "$1" --table "0 $(bi_sectors "$2") linear [interpose]$2 0"
}

refused() { # WHY DEVICE
	must_fail "interpose '$2': $1.*; everything was put back" linear x "$2"
	! dmsetup info x >/dev/null 2>&1 || lb_fail "x is left"
	bi_none_left
}

goes_through() { # TARGET DEVICE: what is written to the one goes through the other
	local before
	before=$(bi_written "/dev/mapper/$1")
	dd if=/dev/urandom of="$2" bs=64k count=16 oflag=direct conv=notrunc status=none
	# A file system has to say something of it, too.
	(($(bi_written "/dev/mapper/$1") - before >= 2048)) ||
		lb_fail "of 2048 sectors for $2 $(($(bi_written "/dev/mapper/$1") - before)) went through $1"
}

test_multipath() {
	lb_step "multipath above the original"
	local size
	bi_has_driver dm-multipath || return 0
	bi_has_driver dm-round-robin || return 0
	size=$(bi_sectors /dev/vdb)
	dmsetup create paths --table "0 $size multipath 0 0 1 1 round-robin 0 1 1 /dev/vdb 1"
	refused "/dev/vdb is in use by 'paths' \(multipath\), which sends it requests past any redirection" /dev/vdb
	dmsetup remove paths
	# With bios it is like any other.
	dmsetup create paths --table "0 $size multipath 2 queue_mode bio 0 1 1 round-robin 0 1 1 /dev/vdb 1"
	linear x /dev/vdb
	goes_through x /dev/mapper/paths
	blk-interpose remove x
	dmsetup remove paths
	bi_none_left
}

test_claimed() {
	lb_step "somebody who cannot be named"
	python3 -c 'import os, time; os.open("/dev/vdb", os.O_RDONLY | os.O_EXCL); open("/run/claimed", "w"); time.sleep(1000)' &
	for _ in {1..100}; do [ ! -e /run/claimed ] || break; sleep 0.1; done
	refused "/dev/vdb is in use by somebody who is not" /dev/vdb
	kill $!
	wait $! || true
	linear x /dev/vdb
	blk-interpose remove x
}

test_direct() {
	lb_step "direct access"
	if ! modprobe -q nd_e820 || ! modprobe -q nd_pmem || ! [ -b /dev/pmem0 ]; then
		bi_lacks "persistent memory"
		return 0
	fi
	[ "$(cat /sys/block/pmem0/queue/dax)" = 1 ] || { bi_lacks "direct access"; return 0; }
	mkdir -p /run/pmem
	mkfs.ext4 -q -b 4096 /dev/pmem0
	mount -o dax /dev/pmem0 /run/pmem
	refused "/dev/pmem0 is in use by the ext4 on '/run/pmem', which accesses the disk directly \(DAX\)" /dev/pmem0
	umount /run/pmem
	mount /dev/pmem0 /run/pmem
	refused "/dev/pmem0 is in use by the ext4 on '/run/pmem', which may access" /dev/pmem0
	umount /run/pmem
}

test_lvm_above() {
	lb_step "LVM on top of an interposed disk"
	lvm_setup
	pvcreate -qy /dev/vda >/dev/null
	vgcreate -q group /dev/vda >/dev/null
	lvcreate -qy -Zn -Wn -L 128M -n one group >/dev/null
	dmsetup mknodes
	bi_mkfs ext4 /dev/mapper/group-one
	mount /dev/mapper/group-one "$bi_mnt"
	linear below /dev/vda
	goes_through below "$bi_mnt/f"
	# LVM changes its tables and its metadata as ever.
	lvcreate -qy -Zn -Wn -L 64M -n two group >/dev/null
	dmsetup mknodes
	goes_through below /dev/mapper/group-two
	bi_start_load "$bi_mnt"
	lvextend -q -L 256M group/one >/dev/null
	resize2fs /dev/mapper/group-one >/dev/null 2>&1
	blk-interpose remove below
	blk-interpose snapshot /dev/vda moment --cow /dev/vdb
	bi_load_runs
	lvextend -q -l +4 group/two >/dev/null
	blk-interpose remove moment
	bi_stop_load
	bi_none_left
	[ "$(lvs --noheadings -o lv_size --units m group/one | tr -d ' ')" = 256.00m ] || lb_fail "LVM has lost a change"
}

test_lvm_below() {
	lb_step "an LV is the original"
	blk-interpose snapshot /dev/mapper/group-one moment --cow /dev/vdb >"$lb_state/said"
	grep -q "the file system was frozen" "$lb_state/said" || lb_fail "not frozen: $(<"$lb_state/said")"
	bi_start_load "$bi_mnt"
	bi_fsck ext4 /dev/mapper/moment
	! blk-interpose status moment | grep -q "another size" || lb_fail "it has its size"
	# Its table is another one now, and the target is as large as before.
	lvextend -q -l +2 group/one >/dev/null
	for _ in {1..50}; do ! blk-interpose status moment | grep -q "another size" || break; sleep 0.1; done
	blk-interpose status moment | grep -q "another size" || lb_fail "nothing is said of the new size"
	bi_fsck ext4 /dev/mapper/moment
	bi_load_runs
	blk-interpose remove moment
	# With a disk below that is interposed too.
	linear below /dev/vda
	linear above /dev/mapper/group-one
	bi_stop_load
	goes_through above "$bi_mnt/f"
	goes_through below "$bi_mnt/f"
	blk-interpose remove below
	blk-interpose remove above
	umount "$bi_mnt"
	bi_fsck ext4 /dev/mapper/group-one
	bi_none_left
	vgchange -qan group >/dev/null
}

lb_load_interposer
test_multipath
test_claimed
test_direct
test_lvm_above
test_lvm_below
lb_unload_interposer
