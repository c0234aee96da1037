#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: busy is refused, idle leaves nothing; suspend, reload and remove under load
# needs: qemu-img dmsetup fio
# timeout: 1200
# mem: 3G
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh

name=life0
device=/dev/mapper/$name
seed=${LIVEBLK_SEED:-$((RANDOM * 32768 + RANDOM))}
switches=12
# Each takes longer there.
if [ -e /sys/kernel/debug/kmemleak ]; then switches=8; fi
load=

dirty_flag() { # IMAGE
	# Incompatible feature bit 0, in the last of the eight bytes at 72.
	local byte
	byte=$(od -An -tu1 -j 79 -N 1 "$1")
	echo $((byte & 1))
}

references() { cat /sys/module/dm_qcow2/refcnt; }

start_load() { # SECONDS [blk-difftest options...]
	local seconds=$1
	shift
	blk-difftest "$device" --model "$dir/model" --seed "$seed" --seconds "$seconds" --jobs 3 \
		--max-size 256k --cluster-size 16k --discard zeros --strict "$@" &
	load=$!
	seed=$((seed + 1))
}

finish_load() {
	wait "$load" || lb_fail "the load has failed"
	load=
}

compare_image() {
	qemu-img compare -q -f raw -F qcow2 "$dir/model" "$image" || lb_fail "the image is not what the model says"
}

# After what has to be survived: everything is there.
end_of_load() {
	kill -TERM "$load"
	finish_load
	lb_detach "$name"
	lb_check "$image"
	compare_image
}

test_busy() {
	lb_step "an open device and a module in use stay"
	lb_attach "$name" "$image"
	exec 9<"$device"
	must_fail "busy" dmsetup remove "$name"
	must_fail "in use" rmmod dm_qcow2
	exec 9<&-
	start_load 4
	sleep 1
	must_fail "busy" dmsetup remove "$name"
	must_fail "in use" rmmod dm_qcow2
	finish_load
	must_fail "in use" rmmod dm_qcow2
	lb_detach "$name"
	lb_check "$image"
	compare_image
	[ "$(references)" = 0 ] || lb_fail "the module has $(references) references with no device"
}

test_removed_at_last_close() {
	lb_step "a deferred removal happens at the last close"
	lb_attach "$name" "$image"
	start_load 3
	sleep 1
	dmsetup remove --deferred "$name"
	finish_load
	for _ in {1..50}; do
		dmsetup info "$name" >/dev/null 2>&1 || break
		sleep 0.1
	done
	dmsetup info "$name" >/dev/null 2>&1 && lb_fail "the device is still there"
	rm -f "$device"
	lb_check "$image"
	compare_image
}

test_dirty_bit() {
	lb_step "the dirty bit is set while it must be, and cleared by suspend and detach"
	local lazy=$dir/lazy.qcow2
	lb_image "$lazy" 16M -o lazy_refcounts=on
	lb_attach "$name" "$lazy"
	dd if=/dev/urandom of="$device" bs=64k count=20 oflag=direct conv=fsync status=none
	[ "$(dirty_flag "$lazy")" = 1 ] || lb_fail "refcounts are lazy, and the image is not marked dirty"
	dmsetup suspend "$name"
	[ "$(dirty_flag "$lazy")" = 0 ] || lb_fail "suspended, and still marked dirty"
	lb_check "$lazy"
	dmsetup resume "$name"
	dd if=/dev/urandom of="$device" bs=64k seek=20 count=20 oflag=direct conv=fsync status=none
	lb_detach "$name"
	[ "$(dirty_flag "$lazy")" = 0 ] || lb_fail "detached, and still marked dirty"
	lb_check "$lazy"
	rm "$lazy"
}

test_suspend_under_load() {
	lb_step "suspend and resume $switches times under load"
	local i option
	lb_attach "$name" "$image" cache_kib 64
	start_load 600
	for ((i = 0; i < switches; i++)); do
		option=
		((i % 3)) || option=--noflush
		# shellcheck disable=SC2086 # none or one
		dmsetup suspend $option "$name"
		# Closed and complete, whatever is waiting above.
		((i % 6)) || lb_check "$image"
		dmsetup resume "$name"
		sleep 0.05
	done
	end_of_load
}

test_reload_under_load() {
	lb_step "a new table $switches times under load"
	local i line=("" "cache_kib 64" "cache_kib 1024" "") sectors
	lb_attach "$name" "$image"
	sectors=$(blockdev --getsz "$device")
	start_load 600
	for ((i = 0; i < switches; i++)); do
		local arguments=${line[i % 4]}
		dmsetup reload "$name" --table "0 $sectors qcow2 $image${arguments:+ 2 $arguments}"
		# Every other one suspended first, as a manager would, else by the swap itself.
		((i % 2)) || dmsetup suspend "$name"
		dmsetup resume "$name"
		sleep 0.05
	done
	end_of_load
}

# read_only or nothing
reload() {
	dmsetup reload "$name" --table "$(lb_table "$image" "$@")"
	dmsetup suspend "$name"
	dmsetup resume "$name"
}

test_mode_change() {
	lb_step "read_only, writable and back by new tables"
	lb_attach "$name" "$image" read_only
	[ "$(blockdev --getro "$device")" = 1 ] || lb_fail "read_only, and writable"
	reload
	[ "$(blockdev --getro "$device")" = 0 ] || lb_fail "writable, and read-only"
	blkdiscard --offset 1M --length 1M "$device" || lb_fail "no discard after a change to writable"
	dd if=/dev/zero of="$dir/model" bs=1M seek=1 count=1 conv=notrunc status=none
	dd if=/dev/urandom of="$dir/part" bs=64k count=1 status=none
	dd if="$dir/part" of="$device" bs=64k seek=1 oflag=direct conv=notrunc status=none
	dd if="$dir/part" of="$dir/model" bs=64k seek=1 conv=notrunc status=none
	reload read_only
	[ "$(blockdev --getro "$device")" = 1 ] || lb_fail "read_only again, and writable"
	must_fail "Operation not permitted" dd if="$dir/part" of="$device" bs=64k oflag=direct conv=notrunc status=none
	lb_detach "$name"
	rm "$dir/part"
	lb_check "$image"
	compare_image
}

test_suspend_under_fio() {
	lb_step "suspend and resume under fio --verify"
	local i pid
	lb_attach "$name" "$image"
	fio --minimal --name=life --filename="$device" --numjobs=2 --offset_increment=16m --size=8m --rw=randrw --bs=4k \
		--ioengine=io_uring --iodepth=16 --direct=1 --verify=crc32c --verify_fatal=1 --time_based --runtime=6 \
		>/run/liveblk-fio &
	pid=$!
	for ((i = 0; i < switches / 2; i++)); do
		dmsetup suspend "$name"
		dmsetup resume "$name"
		sleep 0.1
	done
	wait "$pid" || {
		cat /run/liveblk-fio
		lb_fail "fio has failed"
	}
	lb_detach "$name"
	lb_check "$image"
}

on_exit() {
	local status=$?
	[ -z "$load" ] || kill "$load" 2>/dev/null || true
	return "$status"
}
trap on_exit EXIT

export PATH=$LIVEBLK_BUILD/bin:$PATH
echo "seed $seed"
lb_load
dir=$(lb_scratch 400 xfs)
image=$dir/disk.qcow2
lb_image "$image" 32M -o cluster_size=16k
test_busy
test_removed_at_last_close
test_dirty_bit
test_suspend_under_load
test_reload_under_load
test_mode_change
test_suspend_under_fio
lb_unload
[ ! -e /sys/module/dm_qcow2 ] || lb_fail "the module is still loaded"
