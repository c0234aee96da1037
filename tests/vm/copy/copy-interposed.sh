#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: copies of an interposed disk go through the target, and those of a target past it to the disk's driver
# needs: qemu-img dmsetup jq
# timeout: 200
# cpus: 1
# one-thread: yes
# debug: yes
set -eu -o pipefail
# shellcheck source=tests/vm/copy/lib.sh
. tests/vm/copy/lib.sh
# shellcheck source=tests/vm/interposer/lib.sh
. tests/vm/interposer/lib.sh

offloaded() { cp_attr "$disk" offloaded; }

copy_counted() { # OFFLOADED COPY-ARGUMENT...
	local before expected=$1
	shift
	before=$(offloaded)
	blk-copy --emulate=auto "$@"
	[ $(($(offloaded) - before)) = "$expected" ] ||
		lb_fail "$(($(offloaded) - before)) bytes were offloaded, not $expected: blk-copy $*"
}

# Everything is moved there, so that a copy past the target is seen.
test_through() {
	lb_step "through the target"
	local last
	copy_counted $mib "$disk" "$disk:8m" 1m
	bi_rotate rot "$disk"
	cp_fill "$disk" 0 $((4 * mib))
	copy_counted 0 "$disk" "$disk:16m" 4m
	cp_same "$disk" 0 "$disk" $((16 * mib)) $((4 * mib))
	must_fail "no driver copies this" blk-copy "$disk" "$disk:24m" 1m
	# The target leaves the last sectors to the beginning of the disk.
	last=$((size - bi_moved * 512))
	copy_counted 0 "$disk" "$disk:$last" $((bi_moved * 512))
	cp_same "$disk" 0 "$disk" "$last" $((bi_moved * 512))
	cp_fill "$disk" $((40 * mib)) $mib
	blk-interpose remove rot
	cp_same "$disk" $((bi_moved * 512)) "$disk" $((16 * mib + bi_moved * 512)) $((4 * mib))
	cp_same "$disk" $((bi_moved * 512)) "$disk" 0 $((bi_moved * 512))
	copy_counted $mib "$disk" "$disk:8m" 1m
	bi_none_left
}

# A copy that the driver is at when the target is attached is waited for.
test_under_way() {
	lb_step "a copy that had begun before"
	local copier
	cp_fill "$disk" 0 $mib
	cp_fault smoke "copy 0 $mib delay 3000000"
	copy_counted $mib "$disk" "$disk:8m" 1m &
	copier=$!
	sleep 1
	bi_rotate rot "$disk"
	! kill -0 "$copier" 2>/dev/null || lb_fail "the target was attached in the middle of a copy"
	wait "$copier"
	cp_fault smoke clear
	blk-interpose remove rot
	cp_same "$disk" 0 "$disk" $((8 * mib)) $mib
	bi_none_left
}

# dm-qcow2 on the lower disk, and the same disk again on top of it.
test_past() {
	lb_step "past a target of ours"
	qemu-img create -q -f qcow2 "$disk" "$size"
	blk-interpose create vm --table "0 $((size / 512)) qcow2 [interpose]$disk"
	cp_fill "$disk" 0 $((4 * mib))
	copy_counted $((4 * mib)) /dev/mapper/vm "/dev/mapper/vm:16m" 4m
	cp_same "$disk" 0 "$disk" $((16 * mib)) $((4 * mib))
	copy_counted 0 "$disk" "$disk:24m" 4m
	cp_same "$disk" 0 "$disk" $((24 * mib)) $((4 * mib))
	blk-interpose remove vm
	bi_none_left
	lb_check "$disk"
}

# The same over another dm-qcow2: zeros of a piece that goes past the target are for the disk, and none of the guest's business.
test_past_qcow2() {
	lb_step "past a target, to a disk of ours"
	local sum zeros host
	zeros=$(head -c $mib /dev/zero | sha256sum)
	qemu-img create -q -f qcow2 "$disk" 48M
	lb_attach x "$disk"
	qemu-img create -q -f qcow2 /dev/mapper/x 48M
	# What is at 16 MiB of the guest is within the first 2 MiB of the disk.
	lb_attach vm /dev/mapper/x
	cp_fill /dev/mapper/vm $((16 * mib)) $mib
	cp_fill /dev/mapper/vm 0 $((4 * mib))
	lb_detach vm
	# What the guest has at 3 MiB is not there below.
	host=$(qemu-img map --output=json -f qcow2 /dev/mapper/x |
		jq -e "[.[] | select(.start <= 3 * $mib and .start + .length >= 4 * $mib) | .offset + 3 * $mib - .start][0]")
	blkdiscard -o "$host" -l $mib /dev/mapper/x
	blk-interpose create vm --table "0 $((48 * 2048)) qcow2 [interpose]/dev/mapper/x"
	[ "$(cp_sum /dev/mapper/vm $((3 * mib)) $mib)" = "$zeros" ] || lb_fail "the disk below has not forgotten them"
	sum=$(cp_sum /dev/mapper/vm 0 $((3 * mib)))
	blk-copy /dev/mapper/vm:3m /dev/mapper/vm:16m 1m
	[ "$(cp_sum /dev/mapper/vm $((16 * mib)) $mib)" = "$zeros" ] || lb_fail "the zeros are not where they belong"
	[ "$(cp_sum /dev/mapper/vm 0 $((3 * mib)))" = "$sum" ] || lb_fail "the zeros are where they do not belong"
	blk-interpose remove vm
	bi_none_left
	lb_check /dev/mapper/x
	lb_detach x
	lb_check "$disk"
}

# The disk below copies multiples of 4 KiB, the one above it of 512 bytes: what is left is read and written.
test_granularity() {
	lb_step "past a target, to a disk that copies larger blocks only"
	local large
	large=$(cp_null large size=64 blocksize=4096)
	qemu-img create -q -f qcow2 "$large" 48M
	lb_attach x "$large"
	[ "$(blockdev --getss /dev/mapper/x)" = 512 ] || lb_fail "blocks of $(blockdev --getss /dev/mapper/x) bytes"
	qemu-img create -q -f qcow2 /dev/mapper/x 48M
	blk-interpose create vm --table "0 $((48 * 2048)) qcow2 [interpose]/dev/mapper/x"
	cp_fill /dev/mapper/vm 0 $((2 * mib))
	cp_fill /dev/mapper/vm $((16 * mib)) $mib
	blk-copy /dev/mapper/vm /dev/mapper/vm:16m 4608
	cp_same /dev/mapper/vm 0 /dev/mapper/vm $((16 * mib)) 4608
	blk-copy /dev/mapper/vm:512 /dev/mapper/vm:17m 65536
	cp_same /dev/mapper/vm 512 /dev/mapper/vm $((17 * mib)) 65536
	blk-interpose remove vm
	bi_none_left
	lb_check /dev/mapper/x
	lb_detach x
	lb_check "$large"
	cp_null_remove large
}

# The lower disk of a disk whose driver does not copy does not either, and what is stored on it is not emulated unasked.
test_none_below() {
	lb_step "past a target, to a disk that does not copy"
	local ram
	ram=$(lb_ramdisk 64)
	qemu-img create -q -f qcow2 "$ram" 64M
	blk-interpose create vm --table "0 $((64 * 2048)) qcow2 [interpose]$ram"
	cp_fill /dev/mapper/vm 0 $mib
	must_fail "no driver copies this" blk-copy /dev/mapper/vm /dev/mapper/vm:16m 1m
	blk-copy --emulate=auto /dev/mapper/vm /dev/mapper/vm:16m 1m
	cp_same /dev/mapper/vm 0 /dev/mapper/vm $((16 * mib)) $mib
	blk-interpose remove vm
	bi_none_left
	lb_check "$ram"
}

cp_load null-copy
lb_load
lb_load_interposer
size=$((64 * mib))
disk=$(cp_null smoke size=64)
test_through
test_under_way
test_past
test_past_qcow2
test_granularity
test_none_below
cp_null_remove smoke
lb_rmmod null-copy dm-qcow2 blk-interposer
