#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: a store that is on its original, or an image on its device, is refused by whatever way it is, and the way is named
# needs: dmsetup mkfs.ext4 mkfs.xfs qemu-img qemu-nbd losetup python3 jq
# timeout: 600
# cpus: 1
# disks: 512M 256M
# one-thread: yes
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/interposer/lib.sh
. tests/vm/interposer/lib.sh

# The file system on /dev/vda would be frozen while the store on it has to be written.
refused() { # WAY STORE [ORIGINAL]
	local original=${3:-/dev/vda}
	must_fail "use '$2': it is (on|a file on) '$original' itself: $1$original; everything was put back" \
		blk-interpose snapshot "$original" x --cow "$2"
	must_fail "itself: $1$original; everything was put back" blk-interpose track "$original" x --meta "$2"
	! dmsetup info x >/dev/null 2>&1 || lb_fail "a device is left"
	[ -n "${others:-}" ] || bi_none_left
}

file() { # NAME: a new one on /dev/vda
	truncate -s 64M "$bi_mnt/$1"
	echo "$bi_mnt/$1"
}

gone=' \(deleted\)'

test_loops() {
	local disk
	lb_step "loop-copy"
	disk=$(blk-copy loop attach "$(file c.img)")
	refused "$disk -> '$bi_mnt/c.img' -> " "$disk"
	rm "$bi_mnt/c.img"
	refused "$disk -> '$bi_mnt/c.img$gone' -> " "$disk"
	blk-copy loop detach "$disk"
	lb_step "loop"
	disk=$(losetup -f --show "$(file l.img)")
	refused "$disk -> '$bi_mnt/l.img' -> " "$disk"
	dmsetup create onloop --table "0 65536 linear $disk 0"
	refused "/dev/dm-[0-9]+ -> $disk -> '$bi_mnt/l.img' -> " /dev/mapper/onloop
	dmsetup remove onloop
	# Its folder is gone too, and something else has the name.
	mkdir "$bi_mnt/folder"
	mv "$bi_mnt/l.img" "$bi_mnt/folder/"
	rm -r "$bi_mnt/folder"
	refused "$disk -> '$bi_mnt/folder/l.img$gone' -> " "$disk"
	ln -s /run "$bi_mnt/folder"
	truncate -s 1M "/run/l.img (deleted)"
	refused "$disk -> '$bi_mnt/folder/l.img$gone' -> " "$disk"
	rm "/run/l.img (deleted)" "$bi_mnt/folder"
	losetup -d "$disk"
	lb_step "a loop device on a loop device, as a disk"
	local upper
	disk=$(losetup -f --show "$(file l.img)")
	upper=$(losetup -f --show "$disk")
	refused "$upper -> $disk -> '$bi_mnt/l.img' -> " "$upper"
	losetup -d "$upper" "$disk"
	rm "$bi_mnt/l.img"
}

test_qcow2() {
	lb_step "dm-qcow2"
	lb_image "$bi_mnt/q 1.qcow2" 64M
	qcow2-maint attach "$bi_mnt/q 1.qcow2" image >/dev/null
	dmsetup mknodes image
	refused "/dev/dm-[0-9]+ -> '$bi_mnt/q 1.qcow2' -> " /dev/mapper/image
	rm "$bi_mnt/q 1.qcow2"
	refused "/dev/dm-[0-9]+ -> '$bi_mnt/q 1.qcow2' -> " /dev/mapper/image
	lb_detach image
}

test_overlay() {
	lb_step "an overlay"
	local merged disk
	merged=$(lb_overlay "$bi_mnt")
	refused "'$merged/new' -> '$bi_mnt/upper' -> " "$merged/new"
	[ ! -e "$merged/new" ] || lb_fail "a file is left"
	truncate -s 64M "$merged/o.img"
	disk=$(losetup -f --show "$merged/o.img")
	refused "$disk -> '$merged/o.img' -> '$bi_mnt/upper' -> " "$disk"
	rm "$merged/o.img"
	refused "$disk -> '$merged/o.img($gone)?' -> '$bi_mnt/upper' -> " "$disk"
	losetup -d "$disk"
	truncate -s 64M "$merged/o.img"
	disk=$(blk-copy loop attach "$merged/o.img")
	refused "$disk -> '.*o.img' -> " "$disk"
	rm "$merged/o.img"
	refused "$disk -> '.*o.img$gone' -> " "$disk"
	blk-copy loop detach "$disk"
	umount "$merged"
	# What is copied up from there is read first.
	mkdir -p /run/ov/{upper,work,merged}
	truncate -s 64M "$bi_mnt/lower/o.img"
	mount -t overlay -o "lowerdir=$bi_mnt/lower,upperdir=/run/ov/upper,workdir=/run/ov/work" none /run/ov/merged
	refused "'/run/ov/merged/o.img' -> '$bi_mnt/lower' -> " /run/ov/merged/o.img
	umount /run/ov/merged
	# Whoever mounted the root of this machine saw its layers by other names.
	must_fail "find out what '/way.cow' is on: '/(new|run/job)/.*', a layer of the overlay on '/', is not visible here" \
		blk-interpose snapshot /dev/vda x --cow /way.cow
	[ ! -e /way.cow ] || lb_fail "a file is left"
	rm -r "$bi_mnt"/{lower,upper,work,merged}
}

# A container's file system, which is mounted in its namespace alone.
test_namespace() {
	lb_step "a file system of another namespace"
	local disk there
	mkdir -p /run/there
	disk=$(losetup -f --show "$(file fs.img)")
	mkfs.ext4 -q "$disk"
	# shellcheck disable=SC2016 # expanded by the other shell
	unshare -m bash -c 'mount "$1" /run/there && truncate -s 16M /run/there/l.img &&
		losetup -f --show /run/there/l.img >"$2"; exec sleep 1000' - "$disk" "$lb_state/there" &
	wait_for test -s "$lb_state/there"
	there=$(<"$lb_state/there")
	refused "$there -> '/.*l.img' -> $disk -> '$bi_mnt/fs.img' -> " "$there"
	losetup -d "$there"
	kill $!
	wait $! || true
	wait_for losetup -d "$disk"
	rm "$bi_mnt/fs.img"
}

test_md() {
	lb_step "md"
	local disk other md=/sys/block/md127/md
	bi_has_driver md_mod || return 0
	bi_has_driver raid1 || return 0
	disk=$(losetup -f --show "$(file md.img)")
	other=$(lb_ramdisk 64)
	echo md127 >/sys/module/md_mod/parameters/new_array
	echo none >"$md/metadata_version"
	echo raid1 >"$md/level"
	echo 2 >"$md/raid_disks"
	for n in "$other" "$disk"; do lsblk -dno MAJ:MIN "$n" | tr -d ' ' >"$md/new_dev"; done
	local slot=0 dev
	for dev in "$md"/dev-*; do echo $slot >"$dev/slot"; slot=$((slot + 1)); done
	echo 16384 >"$md/component_size"
	echo active >"$md/array_state"
	[ -b /dev/md127 ] || mknod /dev/md127 b 9 127
	wait_for grep -q idle "$md/sync_action"
	refused "/dev/md127 -> $disk -> '$bi_mnt/md.img' -> " /dev/md127
	echo clear >"$md/array_state"
	wait_for losetup -d "$disk"
	rm "$bi_mnt/md.img"
}

test_bcache() {
	lb_step "bcache: the cache"
	local cache backing set=7f1c33b0-0a3b-4c19-8a07-57a1c12f9d3e
	bi_has_driver bcache || return 0
	cache=$(losetup -f --show "$(file cache.img)")
	backing=/dev/vdb
	tests/interposer/bcache-super.py cache "$set" "$cache"
	tests/interposer/bcache-super.py backing "$set" "$backing"
	for n in "$cache" "$backing"; do echo "$n" >/sys/fs/bcache/register; done
	wait_for test -e /sys/block/bcache0/bcache/cache
	refused "/dev/bcache0 -> $cache -> '$bi_mnt/cache.img' -> " /dev/bcache0
	refused "/dev/bcache0 -> " /dev/bcache0 /dev/vdb
	echo 1 >/sys/block/bcache0/bcache/stop
	wait_for test ! -e /sys/block/bcache0
	echo 1 >"/sys/fs/bcache/$set/stop"
	wait_for test ! -e "/sys/fs/bcache/$set"
	wait_for losetup -d "$cache"
	rm "$bi_mnt/cache.img"
	dd if=/dev/zero of=/dev/vdb bs=64k count=1 status=none
}

test_zram() {
	lb_step "zram writes back"
	local disk
	bi_has_driver zram || return 0
	disk=$(losetup -f --show "$(file z.img)")
	echo 1 >/sys/block/zram0/reset
	if ! echo "$disk" 2>/dev/null >/sys/block/zram0/backing_dev; then
		bi_lacks "zram with a backing device"
		losetup -d "$disk"
		return 0
	fi
	echo 64M >/sys/block/zram0/disksize
	refused "/dev/zram0 -> $disk -> '$bi_mnt/z.img' -> " /dev/zram0
	echo 1 >/sys/block/zram0/reset
	losetup -d "$disk"
	rm "$bi_mnt/z.img"
}

test_nbd() {
	lb_step "nbd: by a process here, and by one that is not seen"
	bi_has_driver nbd || return 0
	mkdir -p /run/lock
	qemu-nbd -f raw -c /dev/nbd0 "$(file n.img)"
	wait_for test -s /sys/block/nbd0/pid
	refused "/dev/nbd0 -> process [0-9]+ -> '$bi_mnt/n.img' -> " /dev/nbd0
	qemu-nbd -d /dev/nbd0 >/dev/null
	wait_for test ! -e /sys/block/nbd0/pid
	truncate -s 64M /run/n.img
	qemu-nbd -f raw -c /dev/nbd1 /run/n.img
	wait_for test -s /sys/block/nbd1/pid
	blk-interpose snapshot /dev/vda x --cow /dev/nbd1 2>"$lb_state/said"
	grep -q "behind /dev/nbd1 cannot be seen from here; it must not be on '/dev/vda'" "$lb_state/said" ||
		lb_fail "nothing is said of nbd: $(<"$lb_state/said")"
	blk-interpose remove x
	qemu-nbd -d /dev/nbd1 >/dev/null
	rm "$bi_mnt/n.img"
}

test_partitions() {
	lb_step "partitions of one disk; the disk itself"
	bi_partition /dev/vdb
	refused "/dev/vdb -> " /dev/vdb /dev/vdb1
	refused "/dev/vdb1 -> " /dev/vdb1 /dev/vdb
	blk-interpose snapshot /dev/vdb2 x --cow /dev/vdb1
	blk-interpose remove x
	lb_step "a file system with its log elsewhere"
	modprobe xfs
	mkfs.xfs --unsupported -q -f -l logdev=/dev/vdb2,size=16m /dev/vdb1
	mkdir -p /run/log
	mount -o logdev=/dev/vdb2 /dev/vdb1 /run/log
	refused "'/run/log/new' -> " /run/log/new /dev/vdb2
	umount /run/log
	mke2fs -q -F -O journal_dev -b 4096 /dev/vdb2
	mkfs.ext4 -q -F -b 4096 -J device=/dev/vdb2 /dev/vdb1
	mount /dev/vdb1 /run/log
	refused "'/run/log/new' -> " /run/log/new /dev/vdb2
	umount /run/log
	wipefs -qaf /dev/vdb1 /dev/vdb2 /dev/vdb
	blockdev --rereadpt /dev/vdb
}

# Two snapshots, each with its store on the other one's disk: a write would go round for ever.
test_crossed() {
	lb_step "by another snapshot"
	local others=first
	bi_mkfs ext4 /dev/vdb
	mkdir -p /run/other
	mount /dev/vdb /run/other
	blk-interpose snapshot /dev/vda first --cow /run/other/first.cow
	refused "'$bi_mnt/second.cow' -> /dev/vda -> (/dev/dm-[0-9]+ -> )+/dev/loop[0-9]+ -> '/run/other/first.cow' -> " \
		"$bi_mnt/second.cow" /dev/vdb
	refused "'$bi_mnt/second.cow' -> /dev/vda -> " "$bi_mnt/second.cow" "/dev/$(bi_disk /dev/mapper/first-origin)"
	blk-interpose remove first
	umount /run/other
	rm -f "$bi_mnt/second.cow"
}

# What a table of the user's leads to.
test_table() {
	lb_step "a table that leads there"
	local disk
	disk=$(blk-copy loop attach "$(file t.img)")
	must_fail "attach '.*': some of it is on '/dev/vda' itself.*: .* -> $disk -> '$bi_mnt/t.img' -> /dev/vda" \
		blk-interpose create x --table "0 $(bi_sectors /dev/vda) log-writes [interpose]/dev/vda $disk"
	bi_none_left
	blk-copy loop detach "$disk"
	rm "$bi_mnt/t.img"
}

# Only somebody who loads tables by hand can bring this about: the file system of the image is on the image's device.
test_own_image() {
	lb_step "qcow2-maint: the image is on its own device"
	local size
	size=$(bi_sectors /dev/vdb)
	dmsetup create host --table "0 $size linear /dev/vdb 0"
	mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 /dev/mapper/host
	mkdir -p /run/host
	mount -o noatime /dev/mapper/host /run/host
	lb_image /run/host/own.qcow2 256M
	qcow2-maint attach /run/host/own.qcow2 own >/dev/null
	dmsetup mknodes own
	sync
	swap_host "linear /dev/mapper/own 0"
	must_fail "suspend 'own': its image '/run/host/own.qcow2' is on the device itself: '/run/host/own.qcow2' -> /dev/dm-[0-9]+ -> /dev/dm-[0-9]+" \
		timeout 20 qcow2-maint snapshot create own first
	swap_host "linear /dev/vdb 0"
	qcow2-maint snapshot create own second >/dev/null
	lb_detach own
	umount /run/host
	dmsetup remove host
}

# Without a flush or a freeze, which would wait for the device that is being changed.
swap_host() { # TARGET
	dmsetup reload host --table "0 $size $1"
	dmsetup suspend --nolockfs --noflush host
	dmsetup resume host
}

wait_for() { # COMMAND...
	local _
	for _ in {1..200}; do
		! "$@" 2>/dev/null || return 0
		sleep 0.1
	done
	lb_fail "in vain: $*"
}

lb_load
lb_load_interposer
lb_insmod loop-copy
modprobe loop
bi_mkfs ext4 /dev/vda
mount /dev/vda "$bi_mnt"
test_loops
test_qcow2
test_overlay
test_namespace
test_table
test_nbd
test_zram
test_md
test_bcache
test_partitions
test_crossed
test_own_image
umount "$bi_mnt"
bi_fsck ext4 /dev/vda
lb_rmmod loop-copy dm-qcow2
lb_unload_interposer
