#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: what file-io promises, by each module that uses it: limits and freezes, time stamps, page-cache writes that are lost
# needs: dmsetup fsfreeze mkfs.xfs mkfs.ext4 mkfs.minix qemu-img
# timeout: 600
# mem: 2G
#
# LIVEBLK_USERS=... has it look at some of the modules only. Each has three functions here: one that makes a file whose
# disk has 16 MiB, one that attaches it and says where, one that detaches it.
set -eu -o pipefail
# shellcheck source=tests/vm/copy/lib.sh
. tests/vm/copy/lib.sh

users=${LIVEBLK_USERS:-loop-copy dm-qcow2}
io_error='Input/output error'

loop_copy_make() { truncate -s 16M "$1"; }
loop_copy_attach() { cp_loop "$1"; }
loop_copy_detach() { cp_loop_detach "$1"; }

dm_qcow2_make() { lb_image "$1" 16M; }
# What was lost may be its metadata: an image in which writes were lost is to be repaired first.
dm_qcow2_attach() {
	[ -z "${2:-}" ] || qemu-img check -q -r all "$1" || lb_fail "it cannot be repaired"
	lb_attach user "$1" ${2:+accept_loss}
	echo /dev/mapper/user
}
dm_qcow2_detach() { lb_detach user; }

make() { "${user//-/_}_make" "$@"; }     # FILE
attach() { "${user//-/_}_attach" "$@"; } # FILE [after-loss]: prints the disk
detach() { "${user//-/_}_detach" "$@"; } # DISK

below_becomes() { # TARGET ARGUMENT...
	dmsetup suspend --nolockfs below
	dmsetup reload below --table "0 $(blockdev --getsz "$ram") $*"
	dmsetup resume below
}

below_up() { # FILE-SYSTEM
	dmsetup create below --table "0 $(blockdev --getsz "$ram") linear $ram 0"
	mkdir -p "$dir"
	case $1 in
	ext4) mkfs.ext4 -q -F /dev/mapper/below ;;
	xfs) mkfs.xfs --unsupported -q -f /dev/mapper/below ;;
	minix) mkfs.minix -3 /dev/mapper/below >/dev/null ;;
	esac
	mount -t "$1" /dev/mapper/below "$dir"
}

below_down() {
	umount -R "$dir"
	dmsetup remove below
}

# A limit on the size of files is for those of the program, not for what is below its disk.
test_file_size_limit() {
	local what
	lb_step "$user: a limit on the size of files"
	for what in "new blocks" "old blocks"; do
		(
			ulimit -f 1
			exec dd if=/dev/urandom of="$disk" bs=64k count=16 seek=1 oflag=direct conv=notrunc status=none
		) || lb_fail "$what: the program's limit was applied to the file"
	done
}

test_time_stamp() {
	lb_step "$user: a flush brings the time stamp of the file up to date"
	touch -d 2001-01-01 "$file"
	cp_fill "$disk" 0 65536
	sync "$disk"
	[ "$(date -r "$file" +%Y)" != 2001 ] || lb_fail "written and flushed, and still of 2001"
	touch -d 2001-01-01 "$file"
	sync "$disk"
	[ "$(date -r "$file" +%Y)" = 2001 ] || lb_fail "a flush of nothing has changed the time stamp"
}

# Reads go on, a write waits.
test_frozen() {
	local writer sum
	lb_step "$user: a frozen file system"
	cp_fill "$disk" 0 $mib
	sync "$disk"
	sum=$(cp_sum "$disk" 0 $mib)
	fsfreeze -f "$dir"
	dd if=/dev/zero of="$disk" bs=64k count=1 oflag=direct conv=notrunc status=none &
	writer=$!
	[ "$(timeout 20 dd if="$disk" bs=64k count=15 skip=1 iflag=direct status=none | wc -c)" = $((15 * 65536)) ] ||
		{ fsfreeze -u "$dir"; lb_fail "a read waits"; }
	sleep 1
	[ -d /proc/$writer ] || { fsfreeze -u "$dir"; lb_fail "a write has gone through"; }
	fsfreeze -u "$dir"
	wait "$writer" || lb_fail "the write has failed"
	cmp -n 65536 "$disk" /dev/zero || lb_fail "the write has not been done"
	[ "$(cp_sum "$disk" 0 $mib)" != "$sum" ] || lb_fail "nothing has changed"
}

test_context() { # FILE-SYSTEM
	local disk file=$dir/file
	lb_step "$user on $1"
	below_up "$1"
	make "$file"
	disk=$(attach "$file")
	cp_fill "$disk" 0 $((4 * mib))
	test_file_size_limit
	test_time_stamp
	test_frozen
	detach "$disk"
	below_down
}

# Parts of blocks of a file that shares some go through the page cache. What cannot be written there is not reported as
# written, nor left in the page cache for the next write to another part of the same block to take along.
test_lost_page() { # [overlay]
	local disk file=$dir/file
	lb_step "$user: a part of a block that cannot be written${1:+, below overlayfs}"
	below_up xfs
	[ -z "${1:-}" ] || file=$(lb_overlay "$dir")/file
	make "$file"
	disk=$(attach "$file")
	head -c $mib /dev/urandom >/run/pattern
	dd if=/run/pattern of="$disk" bs=64k oflag=direct conv=notrunc status=none
	detach "$disk"
	cp --reflink=always "$dir/${1:+upper/}file" "$dir/shares"
	sync -f "$dir"
	disk=$(attach "$file")
	cmp -n $mib "$disk" /run/pattern
	below_becomes flakey "$ram" 0 0 60 1 error_writes
	must_give "$io_error" if=/dev/urandom of="$disk" bs=512 seek=3 count=1 oflag=direct conv=notrunc
	below_becomes linear "$ram" 0
	dd if=/run/pattern of="$disk" bs=512 skip=4 seek=4 count=1 oflag=direct conv=notrunc status=none ||
		lb_fail "the file system is of no use any more"
	blockdev --flushbufs "$disk"
	cmp -n $mib "$disk" /run/pattern || lb_fail "what has failed is there"
	detach "$disk"
	umount -R "$dir"
	mount /dev/mapper/below "$dir"
	[ -z "${1:-}" ] || lb_overlay "$dir" >/dev/null
	disk=$(attach "$file")
	cmp -n $mib "$disk" /run/pattern || lb_fail "what has failed was written after all"
	detach "$disk"
	below_down
}

# The page cache tells of what it has lost once, to one of those who ask.
test_told_once() {
	local disk file=$dir/file _
	lb_step "$user: a file system without direct I/O loses writes"
	modprobe -q minix || { lb_part_skipped "no minix in this kernel: what the page cache loses"; return; }
	below_up minix
	make "$file"
	disk=$(attach "$file")
	cp_fill "$disk" 0 $mib
	sync "$disk"
	below_becomes flakey "$ram" 0 0 60 1 error_writes
	cp_fill "$disk" 0 $mib
	must_fail "$io_error" sync "$disk"
	below_becomes linear "$ram" 0
	for _ in 1 2; do must_fail "$io_error" sync "$disk"; done
	detach "$disk"
	disk=$(attach "$file" after-loss)
	cp_fill "$disk" 0 $mib
	sync "$disk" || lb_fail "flushes fail although it was attached anew"
	detach "$disk"
	below_down
}

# A disk that has refused a flush may have lost what was in its cache, though it accepts the next flush.
test_flush_fails_once() {
	local below disk file=$dir/file
	lb_step "$user: a flush that fails once"
	below=$(cp_null once size=64)
	mkfs.xfs --unsupported -q -f "$below"
	mount "$below" "$dir"
	make "$file"
	disk=$(attach "$file")
	cp_fill "$disk" 0 $mib
	sync "$disk"
	cp_fill "$disk" 0 $mib
	# What was written over is on the disk, or in its cache: nothing goes to the log.
	cp_fault once "flush 0 512 fail 1"
	must_fail "$io_error" sync "$disk"
	sync "$disk" || lb_fail "the next one fails too"
	detach "$disk"
	umount "$dir"
	cp_null_remove once
}

dir=/run/file-io
lb_load
cp_load loop-copy null-copy
ram=$(lb_ramdisk 96)
for user in $users; do
	test_context ext4
	test_context xfs
	test_lost_page
	test_lost_page overlay
	test_told_once
	test_flush_fails_once
done
lb_rmmod null-copy loop-copy dm-qcow2
[ ! -e /sys/module/file_io ] || lb_fail "file-io is still in use"
