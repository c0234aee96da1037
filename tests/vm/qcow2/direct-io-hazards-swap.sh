#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: memory that is swapped to dm-qcow2 on a block device, as a partition and as a file, keeps its content
#
# Not to an image in a file: the file system below takes its bios from the same pool as swapping does, so that with
# the last of the memory gone neither goes on, whatever the driver between them does.
# needs: qemu-img dmsetup mkfs.ext4 mkswap swapon
# timeout: 600
# mem: 1G
# boot: own
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh

name=swap0
device=/dev/mapper/$name
upper=/run/liveblk-swap

# Memory for the RAM disk is taken beforehand, so that swapping out does free memory.
swap_under_pressure() { # device|file
	lb_step "swap on the $1"
	local area swap_mib=192 need
	lb_image "$image" 256M preallocation=metadata
	lb_attach "$name" "$image"
	area=$device
	if [ "$1" = file ]; then
		mkfs.ext4 -q -F -E nodiscard "$device"
		mkdir -p "$upper"
		mount "$device" "$upper"
		area=$upper/swapfile
		dd if=/dev/zero of="$area" bs=1M count="$swap_mib" status=none conv=fsync
		chmod 600 "$area"
	fi
	mkswap "$area" >/dev/null
	swapon "$area"
	need=$(($(awk '/^MemAvailable/ {print $2}' /proc/meminfo) / 1024 + swap_mib * 2 / 3))
	swap_before=$(awk '/^pswpout/ {print $2}' /proc/vmstat)
	"$LIVEBLK_BUILD/bin/io-hazards" memory "$need" --passes 1 || lb_fail "memory changed while it was swapped"
	swapped=$(($(awk '/^pswpout/ {print $2}' /proc/vmstat) - swap_before))
	lb_step "$swapped pages were swapped out"
	[ "$swapped" -gt 1000 ] || lb_fail "nothing was swapped: the test proves nothing"
	swapoff "$area"
	[ "$1" = device ] || umount "$upper"
	lb_detach "$name"
	lb_check "$image"
}

lb_load
image=$(lb_ramdisk 260)
dd if=/dev/zero of="$image" bs=1M count=260 oflag=direct status=none
swap_under_pressure device
swap_under_pressure file
lb_unload
