#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: changed blocks of a raw LVM volume under an image: incremental backups that restore to the same, live; and QEMU agrees
# needs: qemu-img qemu-io qemu-nbd dmsetup jq mkfs.ext4 fio pvcreate vgcreate lvcreate
# disks: 256M
# first: yes
# cpus: 1
# timeout: 400
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh
# shellcheck source=tests/lib/bitmaps.sh
. tests/lib/bitmaps.sh
# shellcheck source=tests/lib/lvm.sh
. tests/lib/lvm.sh

maint=$LIVEBLK_BUILD/bin/qcow2-maint
name=tracked
device=/dev/mapper/$name
mnt=/run/liveblk-tracked

listed='."format-specific".data.bitmaps | sort_by(.name)'

# Copies what a bitmap says has changed.
incremental() { # BITMAP FILE
	local start length
	"$maint" bitmap dump "$name" "$1" >/run/dump || lb_fail "cannot dump $1"
	jq -e --arg name "$name" '."pause-ms" >= 0 and .device == $name' /run/dump >/dev/null || lb_fail "no pause is told"
	while read -r start length; do
		dd if="$device" of="$2" bs=64k iflag=skip_bytes,count_bytes,fullblock oflag=seek_bytes conv=notrunc \
			skip="$start" seek="$start" count="$length" status=none
	done < <(jq -r '.ranges[] | "\(.start) \(.length)"' /run/dump)
}

recorded() { jq '[.ranges[].length] | add // 0' /run/dump; }

flags() { # BITMAP: as JSON
	"$maint" bitmap list --json "$1" | jq -c --arg bitmap "$2" '.[] | select(.name == $bitmap) | .flags'
}

# Files come and go, and what they hold is on the disk.
change() { # NUMBER
	mount "$device" "$mnt"
	fio --minimal --name="run$1" --directory="$mnt" --size=6m --rw=randwrite --bs=4k --io_size=2m --randseed="$1" >/dev/null
	rm -f "$mnt/run$(($1 - 1))"*
	umount "$mnt"
	blockdev --flushbufs "$device"
}

make_volume() {
	lvm_setup
	pvcreate -qy /dev/vda >/dev/null
	vgcreate -q group /dev/vda >/dev/null
	lvcreate -qy -Zn -Wn -L 96M -n volume group >/dev/null
	dmsetup mknodes
	volume=/dev/mapper/group-volume
}

test_incremental() {
	local dir backup
	lb_step "a raw LVM volume is tracked while it is in use"
	dir=$(lb_scratch 300 xfs)
	backup=$dir/backup
	make_volume
	mkfs.ext4 -q "$volume"
	qemu-img create -q -f qcow2 -o "data_file=$volume,data_file_raw=on" "$dir/image" 96M
	"$maint" attach --data-file "$volume" "$dir/image" "$name" >/dev/null
	mkdir -p "$mnt"
	"$maint" bitmap add "$name" monday
	cp --sparse=always "$device" "$backup" # all of it
	change 1
	# What comes after a backup is in the next bitmap at least.
	"$maint" bitmap add "$name" tuesday
	"$maint" bitmap disable "$name" monday
	[ "$("$maint" info --json "$name" | jq -S "$listed")" = "$(qemu-img info -U --output=json "$dir/image" |
		jq -S "$listed")" ] || lb_fail "info does not list the bitmaps as qemu-img does: $("$maint" info "$name")"
	incremental monday "$backup"
	cmp "$device" "$backup" || lb_fail "the first incremental backup is not the disk"
	[ "$(recorded)" -lt $((40 << 20)) ] || lb_fail "it has copied nearly all: $(recorded) bytes"
	change 2
	incremental tuesday "$backup"
	cmp "$device" "$backup" || lb_fail "the second incremental backup is not the disk"
	# One bitmap for both days.
	"$maint" bitmap merge "$name" monday tuesday
	[ "$(flags "$name" monday)" = '[]' ] || lb_fail "monday has the flags $(flags "$name" monday)"
	[ "$(flags "$name" tuesday)" = '["in-use","auto"]' ] || lb_fail "tuesday has the flags $(flags "$name" tuesday)"
	"$maint" bitmap clear "$name" tuesday
	"$maint" bitmap dump "$name" tuesday >/run/dump
	[ "$(recorded)" = 0 ] || lb_fail "a bitmap that was cleared says that $(recorded) bytes have changed"
	"$maint" detach "$name"
	lb_check "$dir/image"
	cmp "$volume" "$backup" || lb_fail "the volume is not what the device was"
	qemu_agrees "$dir/image" monday
	"$maint" bitmap remove "$dir/image" monday
	"$maint" bitmap remove "$dir/image" tuesday
	[ "$("$maint" bitmap list --json "$dir/image" | jq length)" = 0 ] || lb_fail "there are bitmaps left"
	lb_check "$dir/image"
	umount "$dir"
	vgremove -qy group >/dev/null
}

# qemu-nbd serves the same ranges.
qemu_agrees() { # IMAGE BITMAP
	read_bitmap "$1" "$2" >/run/by-qemu
	"$maint" bitmap dump "$1" "$2" | jq -r '.ranges[] | "\(.start) \(.length)"' >/run/by-us
	cmp /run/by-qemu /run/by-us || lb_fail "QEMU reads something else in the bitmap"
}

test_refusals() {
	local dir
	lb_step "what cannot be done"
	dir=$(lb_scratch 100 ext4)
	lb_image "$dir/image" 32M
	"$maint" bitmap add -g 4K --disabled "$dir/image" one
	must_fail "there is one of that name" "$maint" bitmap add "$dir/image" one
	must_fail "there is none with that name" "$maint" bitmap clear "$dir/image" two
	must_fail "a granularity is a power of two from 512" "$maint" bitmap add -g 5000 "$dir/image" two
	must_fail "a granularity is a power of two from 512" "$maint" bitmap add -g 256 "$dir/image" two
	lb_image "$dir/old" 32M compat=0.10
	must_fail "version 2 has none" "$maint" bitmap add "$dir/old" one
	lb_image "$dir/other" 16M
	"$maint" bitmap add "$dir/other" one
	must_fail "the disks have 16777216 and 33554432 bytes" "$maint" bitmap merge --from "$dir/other" "$dir/image" one one
	lb_attach "$name" "$dir/image"
	must_fail "in use by the live device $name" "$maint" bitmap add "$dir/image" two
	"$maint" bitmap enable "$name" one
	cp "$dir/image" "$dir/copy"
	must_fail "there is one of that name" "$maint" bitmap add "$name" one
	lb_detach "$name"
	# As a host that stopped has left it.
	must_fail "is inconsistent; it can only be removed" "$maint" bitmap dump "$dir/copy" one
	must_fail "is inconsistent; it can only be removed" "$maint" bitmap disable "$dir/copy" one
	"$maint" bitmap remove "$dir/copy" one
	lb_check "$dir/copy"
	lb_attach "$name" "$dir/image" read_only
	must_fail "read-only" "$maint" bitmap clear "$name" one
	"$maint" bitmap dump "$name" one >/dev/null
	lb_detach "$name"
	umount "$dir"
}

lb_load
test_incremental
test_refusals
lb_unload
