#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: attaching, using and detaching an image over and over loses no memory and no data
# needs: qemu-img dmsetup mkfs.xfs blkdiscard fallocate
# timeout: 600
# boot: own
# cpus: 1
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh

name=leak0
device=/dev/mapper/$name
cycles=100
# What all cycles together may cost, for the noise of the allocators. Slab memory was seen to vary by less than 100 KiB,
# so that an object of 3 KiB lost in each cycle shows; for pages it takes five.
allowed_slab_kib=256
allowed_kib=2048
if [ -e /sys/kernel/debug/kmemleak ]; then
	# There the leak detector watches, with more precision.
	cycles=20
	allowed_slab_kib=16384
	allowed_kib=32768
fi
slab_kib=0 used_kib=0

references() { cat /sys/module/dm_qcow2/refcnt; }

# Sets slab_kib and used_kib, the latter being all that no file or process accounts for.
measure_memory() {
	for _ in 1 2 3; do
		sync
		echo 3 >/proc/sys/vm/drop_caches
		sleep 0.5
	done
	slab_kib=$(awk '$1 ~ /^(SUnreclaim|KernelStack|Percpu):$/ { sum += $2 } END { print sum }' /proc/meminfo)
	used_kib=$(awk '$1 == "MemTotal:" { sum += $2 }
		$1 ~ /^(MemFree|Buffers|Cached|SReclaimable|AnonPages|PageTables):$/ { sum -= $2 } END { print sum }' /proc/meminfo)
}

# Writes, reads and discards what the number of the cycle says.
cycle() { # NUMBER
	local at=$(($1 * 7 % 120))
	dmsetup create "$name" --table "0 65536 qcow2 $image"
	dd if="$dir/data" of="$device" bs=256k count=1 seek="$at" oflag=direct conv=fsync,notrunc status=none
	dd if="$dir/data" of="$model" bs=256k count=1 seek="$at" conv=notrunc status=none
	dd if="$device" of=/dev/null bs=1M skip=$(($1 % 30)) count=2 iflag=direct status=none
	blkdiscard -z --offset $((($1 * 5 % 30) << 20)) --length 100k "$device"
	blkdiscard --offset $((($1 * 11 % 30) << 20)) --length 128k "$device"
	fallocate --punch-hole --offset $((($1 * 5 % 30) << 20)) --length 100k "$model"
	fallocate --punch-hole --offset $((($1 * 11 % 30) << 20)) --length 128k "$model"
	lb_detach "$name"
}

lb_load
# A RAM disk keeps a page once written: it has all of them before memory is measured.
dir=/run/leaks
disk=$(lb_ramdisk 400)
dd if=/dev/zero of="$disk" bs=1M count=400 oflag=direct status=none
modprobe xfs
mkfs.xfs -q -K "$disk"
mkdir "$dir"
mount "$disk" "$dir"
image=$dir/disk.qcow2
lb_image "$image" 32M -o cluster_size=16k
model=$dir/model
truncate -s 32M "$model"
dd if=/dev/urandom of="$dir/data" bs=256k count=1 status=none
lb_step "$cycles times attach, load, detach"
# The first ones fill caches.
for ((i = 0; i < 10; i++)); do cycle "$i"; done
measure_memory
slab_before=$slab_kib used_before=$used_kib
for ((i = 0; i < cycles; i++)); do cycle "$i"; done
measure_memory
echo "kernel memory: slab $slab_before, then $slab_kib KiB; all $used_before, then $used_kib KiB"
((slab_kib - slab_before <= allowed_slab_kib)) || lb_fail "slab memory grows with each cycle"
((used_kib - used_before <= allowed_kib)) || lb_fail "memory is lost in each cycle"
[ "$(references)" = 0 ] || lb_fail "the module has $(references) references with no device"
lb_check "$image"
qemu-img compare -q -f raw -F qcow2 "$model" "$image" || lb_fail "the image is not what the model says"
lb_unload
