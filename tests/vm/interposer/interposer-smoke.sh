#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: a target goes under a mounted ext4 and out again; the module stays while it is there; snapshot, track
# needs: dmsetup mkfs.ext4 e2fsck dumpe2fs sfdisk jq era_invalidate losetup
# timeout: 400
# cpus: 1
# disks: 512M 512M
# one-thread: yes
# debug: yes
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/interposer/lib.sh
. tests/vm/interposer/lib.sh

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

# A file system that was frozen has emptied its journal; another one only looks like it to "noload".
must_be_frozen() { # DEVICE
	! dumpe2fs -h "$1" 2>/dev/null | grep needs_recovery || lb_fail "the file system of $1 was not frozen"
	e2fsck -fn "$1" >"$lb_state/fsck" 2>&1 || { cat "$lb_state/fsck"; lb_fail "$1 is not clean"; }
}

# The file system is not on the device that is interposed, but on the one whose target that is, or on the one above.
test_snapshot_of_tracked() {
	lb_step "a snapshot below a record, and below a target of the record"
	local record size
	size=$(bi_sectors /dev/vda)
	record=$(lb_ramdisk 64)
	blk-interpose track /dev/vda era0 --meta "$record"
	blk-interpose create lin0 --table "0 $size linear [interpose]/dev/mapper/era0 0"
	for below in lin0 era0; do
		echo "$below" >"$bi_mnt/not-written-yet"
		blk-interpose snapshot "/dev/mapper/$below" snap1 --cow /dev/vdb >"$lb_state/said"
		grep -q "the file system was frozen for" "$lb_state/said" || lb_fail "not frozen: $(<"$lb_state/said")"
		must_be_frozen /dev/mapper/snap1
		mount -o ro,noload /dev/mapper/snap1 /run/snap
		[ "$(</run/snap/not-written-yet)" = "$below" ] || lb_fail "the snapshot has another file"
		umount /run/snap
		fsfreeze -f "$bi_mnt"
		must_fail "frozen already" blk-interpose remove snap1
		fsfreeze -u "$bi_mnt"
		blk-interpose remove snap1 >"$lb_state/said"
		grep -q "the file system was frozen for" "$lb_state/said" || lb_fail "not frozen: $(<"$lb_state/said")"
		[ "$below" = era0 ] || blk-interpose remove lin0
	done
	blk-interpose remove era0
	bi_none_left
}

test_snapshot_of_tracked_disk() {
	lb_step "the file system is on a partition of the disk, in a namespace of its own"
	local record cow keeper inner
	modprobe loop
	record=$(lb_ramdisk 64) cow=$(lb_ramdisk 512)
	bi_partition /dev/vdb
	mkfs.ext4 -q -F /dev/vdb1
	mkdir -p /run/other
	# shellcheck disable=SC2016 # expanded by the other shell
	unshare -m bash -c 'mount /dev/vdb1 /run/other && echo there >/run/other/f && : >"$1" && exec sleep 1000' - \
		"$lb_state/mounted" &
	keeper=$!
	for _ in {1..100}; do [ ! -e "$lb_state/mounted" ] || break; sleep 0.1; done
	blk-interpose track /dev/vdb era0 --meta "$record"
	blk-interpose snapshot /dev/mapper/era0 snap1 --cow "$cow" --json >"$lb_state/said"
	[ "$(jq '."frozen-ns" > 0' "$lb_state/said")" = true ] || lb_fail "not frozen: $(<"$lb_state/said")"
	inner=$(losetup -f --show -r -o 1M --sizelimit "$(blockdev --getsize64 /dev/vdb1)" /dev/mapper/snap1)
	must_be_frozen "$inner"
	losetup -d "$inner"
	blk-interpose remove snap1
	kill "$keeper"
	wait "$keeper" || true
	blk-interpose remove era0
	bi_none_left
	lb_step "nothing to freeze, and nothing said of it"
	blk-interpose track /dev/vdb era0 --meta "$record" >"$lb_state/said"
	grep -q "no file system was frozen" "$lb_state/said" || lb_fail "what was frozen? $(<"$lb_state/said")"
	blk-interpose remove era0 --json >"$lb_state/said"
	[ "$(jq '."frozen-ns"' "$lb_state/said")" = 0 ] || lb_fail "what was frozen? $(<"$lb_state/said")"
	wipefs -qaf /dev/vdb
	blockdev --rereadpt /dev/vdb
}

test_overflow() {
	lb_step "a snapshot whose store is full says so"
	local cow
	cow=$(lb_ramdisk 4)
	blk-interpose snapshot /dev/vda full0 --cow "$cow"
	[ "$(blk-interpose status full0 --json | jq -c .failures)" = "[]" ] || lb_fail "it has failed from the beginning"
	blk-interpose list | grep -q "active$" || lb_fail "it is not active"
	dd if=/dev/urandom of="$bi_mnt/f" bs=64k count=256 conv=fsync status=none
	[ "$(dmsetup status full0 | awk '{ print $4 }')" = Invalid ] || lb_fail "the store took it: $(dmsetup status full0)"
	blk-interpose status full0 >"$lb_state/said"
	grep -q "^state: *active, failed$" "$lb_state/said" || lb_fail "status does not say so: $(<"$lb_state/said")"
	grep -q "^failed: *'full0' (snapshot): its store" "$lb_state/said" || lb_fail "it does not say why: $(<"$lb_state/said")"
	blk-interpose list | grep -q "active, failed$" || lb_fail "the list does not say so: $(blk-interpose list)"
	[ "$(blk-interpose status full0 --json | jq -r '.failures[0].device')" = full0 ] || lb_fail "JSON does not say so"
	[ "$(blk-interpose list --json | jq -r '.[0].failures[0].target')" = snapshot ] || lb_fail "JSON does not say so"
	blk-interpose remove full0 2>"$lb_state/said"
	grep -q "warning: it had failed before: 'full0' (snapshot): its store" "$lb_state/said" ||
		lb_fail "remove does not say so: $(<"$lb_state/said")"
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
test_snapshot_of_tracked
test_overflow
test_functions
umount "$bi_mnt"
bi_fsck ext4 /dev/vda
test_snapshot_of_tracked_disk
lb_unload_interposer
