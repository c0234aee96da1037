#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: a target goes under a mounted ext4 and out again; the module stays while it is there; snapshot, track
# needs: dmsetup mkfs.ext4 e2fsck sfdisk jq era_invalidate
# timeout: 400
# disks: 512M 512M
# one-thread: yes
# debug: yes
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh
# shellcheck source=tests/vm/interposer-lib.sh
. tests/vm/interposer-lib.sh

test_create() {
	lb_step "dm-linear under a mounted ext4"
	blk-interpose create lin0 --table "0 $(bi_sectors /dev/vda) linear [interpose]/dev/vda 0"
	must_fail "in use" rmmod blk_interposer
	# What the file system writes goes through the target.
	local before after
	before=$(bi_written /dev/mapper/lin0)
	dd if=/dev/urandom of="$bi_mnt/f" bs=64k count=16 conv=fsync status=none
	after=$(bi_written /dev/mapper/lin0)
	((after - before >= 2048)) || lb_fail "of 2048 sectors written, $((after - before)) went through the target"
	sum=$(sha256sum <"$bi_mnt/f")
	[ "$(blk-interpose status lin0 --json | jq -r .state)" = active ] || lb_fail "not active"
	[ "$(blk-interpose list --json | jq -r '.[0].original')" = /dev/vda ] || lb_fail "not listed"
	must_fail "interposed already" blk-interpose create lin1 \
		--table "0 $(bi_sectors /dev/vda) linear [interpose]/dev/vda 0"
	blk-interpose remove lin0
	bi_none_left
	echo 1 >/proc/sys/vm/drop_caches
	[ "$(sha256sum <"$bi_mnt/f")" = "$sum" ] || lb_fail "the file is another one now"
}

test_snapshot() {
	lb_step "a snapshot is the file system of its moment"
	blk-interpose snapshot /dev/vda snap0 --cow /dev/vdb
	dd if=/dev/urandom of="$bi_mnt/f" bs=64k count=16 conv=fsync,notrunc status=none
	echo later >"$bi_mnt/later"
	sync
	e2fsck -fn /dev/mapper/snap0 >"$lb_state/fsck" 2>&1 || { cat "$lb_state/fsck"; lb_fail "the snapshot is not clean"; }
	mkdir -p /run/snap
	mount -o ro,noload /dev/mapper/snap0 /run/snap
	[ "$(sha256sum </run/snap/f)" = "$sum" ] || lb_fail "the snapshot has changed"
	[ ! -e /run/snap/later ] || lb_fail "the snapshot has a file of later"
	must_fail "in use" blk-interpose remove snap0
	umount /run/snap
	blk-interpose remove snap0
	bi_none_left
}

test_track() {
	lb_step "the record has what was written"
	local first changed
	blk-interpose track /dev/vda era0 --meta /dev/vdb --block 128
	first=$(blk-interpose changes era0 --since 0 --json | jq .next)
	dd if=/dev/urandom of="$bi_mnt/g" bs=64k count=16 conv=fsync status=none
	changed=$(blk-interpose changes era0 --since "$first" --json | jq '[.changed[].length] | add // 0')
	((changed >= 1048576)) || lb_fail "of 1 MiB written, $changed bytes are recorded"
	((changed <= 32 << 20)) || lb_fail "of 1 MiB written, $changed bytes are recorded"
	blk-interpose remove era0
	bi_none_left
}

# The functions for other modules, by one that does nothing else.
test_functions() {
	lb_step "the functions of the module"
	local api=/sys/module/interposer_api/parameters before
	insmod "$LIVEBLK_BUILD/modules/$(uname -r)/tests/interposer-api.ko"
	must_fail "No such device or address" bash -c "echo /dev/vda >$api/detach"
	echo /dev/vda >$api/create
	must_fail "busy" bash -c "echo /dev/vda >$api/create"
	[ "$(<$api/failed)" = "1 4" ] || lb_fail "step and reason are $(<$api/failed)"
	dmsetup create api0 --table "0 $(bi_sectors /dev/vda) linear $(<$api/lower) 0"
	dmsetup mknodes api0
	echo /dev/vda /dev/mapper/api0 >$api/attach
	must_fail "busy" bash -c "echo /dev/vda >$api/destroy"
	before=$(bi_written /dev/mapper/api0)
	dd if=/dev/urandom of="$bi_mnt/h" bs=64k count=4 conv=fsync status=none
	(($(bi_written /dev/mapper/api0) - before >= 512)) || lb_fail "nothing goes through the target"
	echo /dev/vda >$api/detach
	must_fail "busy" bash -c "echo /dev/vda >$api/destroy"
	dmsetup remove api0
	echo /dev/vda >$api/destroy
	rmmod interposer_api
	bi_none_left
}

lb_load_interposer
bi_mkfs ext4 /dev/vda
mount /dev/vda "$bi_mnt"
test_create
test_snapshot
test_track
test_functions
umount "$bi_mnt"
bi_fsck ext4 /dev/vda
lb_unload_interposer
