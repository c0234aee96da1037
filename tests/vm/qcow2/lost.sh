#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: an image whose changes could not be written never comes back as it was without being told to
# needs: qemu-img qemu-io dmsetup jq mkfs.minix
# cpus: 1
# timeout: 600
# first: yes
#
# Environment: LIVEBLK_PARTS, the parts to run (default all).
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh

name=lost0
device=/dev/mapper/$name
below=/dev/mapper/lostbelow
mib=1048576
was_lost='qcow2.*changes.*lost.*accept_loss'

# The first five clusters hold the header, the refcounts, the L1 table and an L2 table, and nothing else.
metadata=$((5 * 128))

# What lies in between gives errors; data does not.
below_fails() { # FROM: sector
	local from=$1 to=$metadata all
	all=$(blockdev --getsz "$ram")
	dmsetup reload lostbelow --table "$([ "$from" = 0 ] || echo "0 $from linear $ram 0")
$from $((to - from)) error
$to $((all - to)) linear $ram $to"
	dmsetup resume lostbelow
}

below_works() {
	dmsetup reload lostbelow --table "0 $(blockdev --getsz "$ram") linear $ram 0"
	dmsetup resume lostbelow
}

write_at() { # BYTE OFFSET LENGTH
	qemu-io -f raw -t none -c "write -q -P $1 $2 $3" -c flush "$device" >/dev/null
}

# Written and durable: ones.
begin() {
	lb_image "$below" 24M
	line="0 49152 qcow2 $below"
	lb_attach "$name" "$below"
	write_at 1 0 $mib
}

# Written, and nowhere but in memory: sevens. No commit can write where they are.
write_sevens() {
	head -c $mib /dev/zero | tr '\0' '\7' |
		dd of="$device" bs=64k seek=16 iflag=fullblock oflag=direct conv=notrunc status=none
}

fail_suspend() { # [FROM: sector]
	below_fails "${1:-0}"
	write_sevens
	mark_log
	dmsetup suspend "$name"
	must_be_logged "qcow2.*could not write all metadata.*stays in use"
	below_works
}

load() { dmsetup reload "$name" --table "$line${1:+ $# $*}"; } # [ARGUMENT...]

all_there() {
	must_hold raw "$device" 1 0 $mib
	must_hold raw "$device" 7 $mib $mib
}

end() {
	lb_detach "$name"
	lb_check "$below"
}

test_reload_refused() {
	lb_step "a table for an image that could not be written is refused; the old one still has all"
	begin
	fail_suspend
	mark_log
	if load 2>/dev/null; then
		# What the old module allowed: here it lost what the table before had.
		dmsetup resume "$name" 2>/dev/null || true
		dmsetup resume "$name"
		all_there
	fi
	must_be_logged "qcow2.*resume the device"
	dmsetup resume "$name"
	all_there
	dmsetup suspend "$name"
	load || lb_fail "written since, and still refused"
	dmsetup resume "$name"
	all_there
	end
	must_hold qcow2 "$below" 7 $mib $mib
}

test_reload_saves() {
	lb_step "a table loaded before that writes what the old one could not"
	begin
	load
	fail_suspend
	dmsetup resume "$name" || dmsetup resume "$name"
	all_there
	end
	must_hold qcow2 "$below" 7 $mib $mib
}

lose() {
	load
	below_fails 0
	write_sevens
	dmsetup suspend "$name"
	# Destroys the table that had it all.
	if dmsetup resume "$name" 2>/dev/null; then
		lb_fail "resumed on a device that fails"
	fi
	below_works
}

refused() { # COMMAND...
	mark_log
	if "$@" 2>/dev/null; then
		lb_fail "not refused: $*"
	fi
	must_be_logged "$was_lost"
}

test_lost() {
	lb_step "lost: the device is not resumed, by the same table or another"
	begin
	lose
	refused dmsetup resume "$name"
	refused load
	refused load read_only
	refused dmsetup create lost1 --table "$line"
	! dmsetup info lost1 >/dev/null 2>&1 || dmsetup remove lost1

	lb_step "lost: nor from a copy of the image, because the device would go back all the same"
	dmsetup create lostcopy --table "0 $(blockdev --getsz "$ram") linear $ram 0"
	refused dmsetup reload "$name" --table "0 49152 qcow2 /dev/mapper/lostcopy"
	dmsetup remove lostcopy

	lb_step "lost: with accept_loss it goes on from what was durable"
	load accept_loss
	dmsetup resume "$name"
	must_hold raw "$device" 1 0 $mib
	must_hold raw "$device" 0 $mib $mib
	[[ $(dmsetup table "$name") != *accept_loss* ]] || lb_fail "accepted for ever: $(dmsetup table "$name")"
	write_at 2 $((2 * mib)) $mib
	load
	dmsetup resume "$name"
	must_hold raw "$device" 2 $((2 * mib)) $mib
	end

	lb_step "lost: accepting one loss accepts no other"
	begin
	lose
	load accept_loss
	dmsetup resume "$name"
	write_at 3 0 65536
	lose
	refused dmsetup resume "$name"
	dmsetup remove "$name"
	lb_attach "$name" "$below" accept_loss
	must_hold raw "$device" 3 0 65536
	end
}

test_removed() {
	lb_step "lost with the device: the image is not attached again without a word"
	begin
	fail_suspend
	dmsetup remove "$name"
	refused dmsetup create "$name" --table "$line"
	! dmsetup info "$name" >/dev/null 2>&1 || dmsetup remove "$name"
	qemu-img create -q -f qcow2 -F qcow2 -b "$below" /run/lost-above 24M
	refused dmsetup create "$name" --table "0 49152 qcow2 /run/lost-above 3 backing qcow2 $below"
	lb_attach "$name" /run/lost-above accept_loss backing qcow2 "$below"
	must_hold raw "$device" 1 0 $mib
	lb_detach "$name"
	lb_attach "$name" "$below" read_only accept_loss
	must_hold raw "$device" 1 0 $mib
	lb_detach "$name"
	refused dmsetup create "$name" --table "$line"
	! dmsetup info "$name" >/dev/null 2>&1 || dmsetup remove "$name"
	qemu-img check -q -r leaks "$below" >/dev/null || true
	lb_attach "$name" "$below" accept_loss
	must_hold raw "$device" 1 0 $mib
	end
	lb_attach "$name" "$below"
	end
}

test_other_target() {
	lb_step "lost to a table of another target in between"
	begin
	fail_suspend
	dmsetup reload "$name" --table "0 49152 error"
	dmsetup resume "$name"
	refused load
	lb_detach "$name"
	lb_attach "$name" "$below" accept_loss
	end
}

# A dirty bit on disk outlives the module: where the header can be written, there is one.
test_marked() {
	lb_step "the image says so itself, where it can be written"
	local mapping
	begin
	# The header can be written, tables cannot.
	fail_suspend 128
	mapping=$(od -An -tu1 -j 79 -N 1 "$below")
	(((mapping & 1) == 1)) || lb_fail "not marked dirty"
	dmsetup remove "$name"
	lb_unload
	lb_load
	mark_log
	! dmsetup create "$name" --table "$line" 2>/dev/null || lb_fail "attached as if nothing had been"
	must_be_logged "qcow2.*not closed cleanly"
	! dmsetup info "$name" >/dev/null 2>&1 || dmsetup remove "$name"
	qemu-img check -q -r all "$below" >/dev/null || true
	lb_attach "$name" "$below"
	must_hold raw "$device" 1 0 $mib
	end
	lb_step "and no longer when it could be written after all"
	begin
	fail_suspend 128
	# Without its changes it could not be used so, and they are not dropped for that.
	must_fail "." load accept_loss
	must_be_logged "qcow2.*marked dirty: to accept the loss"
	dmsetup resume "$name"
	all_there
	end
	must_hold qcow2 "$below" 7 $mib $mib
}

# A commit that fails has another one tried later: not of an image that is gone by then.
test_no_late_commit() {
	lb_step "a commit that fails while the device is removed leaves nothing behind"
	local all
	modprobe dm-delay || lb_fail "no dm-delay"
	all=$(blockdev --getsz "$ram")
	dmsetup create losterror --table "0 $all error"
	begin
	write_sevens
	# Each write fails, four seconds later.
	dmsetup reload lostbelow --table \
		"0 $all delay /dev/mapper/losterror 0 0 /dev/mapper/losterror 0 4000"
	dmsetup resume lostbelow
	dmsetup suspend "$name"
	# Tried again after five seconds: it is under way when the image is freed.
	! dmsetup message "$name" 0 commit 2>/dev/null || lb_fail "committed to a device that fails"
	sleep 6
	dmsetup remove "$name"
	sleep 7
	below_works
	dmsetup remove losterror
	lb_attach "$name" "$below" accept_loss
	end
}

# The page cache tells of lost writes once, and here to a commit that nobody waits for: whoever asks later has to hear of it
# too, and what is lost must not become part of the image.
test_told_once() {
	lb_step "a file system without direct I/O loses writes"
	local dir=/run/liveblk-minix
	modprobe -q minix || { lb_part_skipped "no minix in this kernel: what the page cache loses"; return; }
	mkdir -p "$dir"
	mkfs.minix -3 "$below" >/dev/null
	mount -t minix "$below" "$dir"
	lb_image "$dir/disk.qcow2" 8M
	mark_log
	lb_attach "$name" "$dir/disk.qcow2"
	must_be_logged "no direct I/O on this file system"
	write_at 1 0 $mib
	dmsetup suspend --nolockfs lostbelow
	dmsetup reload lostbelow --table "0 $(blockdev --getsz "$ram") flakey $ram 0 0 60 1 error_writes"
	dmsetup resume lostbelow
	write_sevens
	mark_log
	! dmsetup message "$name" 0 commit || lb_fail "committed to a device that fails"
	must_be_logged "the page cache lost writes"
	dmsetup suspend --nolockfs lostbelow
	below_works
	! sync "$device" 2>/dev/null || lb_fail "a flush succeeds although writes were lost"
	! dmsetup message "$name" 0 commit || lb_fail "a later commit succeeds"
	dmsetup remove "$name"
	qemu-img map -U --output=json "$dir/disk.qcow2" >/run/liveblk-map
	jq -e 'all(.start < 1048576 or (.data | not))' /run/liveblk-map >/dev/null || lb_fail "mapped: $(</run/liveblk-map)"
	qemu-img check -q -r all "$dir/disk.qcow2" >/dev/null 2>&1 || true
	lb_attach "$name" "$dir/disk.qcow2" accept_loss
	must_hold raw "$device" 1 0 $mib
	lb_detach "$name"
	umount "$dir"
}

lb_load
ram=$(lb_ramdisk 64)
dmsetup create lostbelow --table "0 $(blockdev --getsz "$ram") linear $ram 0"
for part in ${LIVEBLK_PARTS:-reload_refused reload_saves lost removed other_target marked no_late_commit
	told_once}; do
	"test_$part"
done
dmsetup remove lostbelow
lb_unload
