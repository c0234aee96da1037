#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: 512-byte sectors above work on 4 KiB sectors and on files without direct I/O below
# needs: qemu-img qemu-io dmsetup mkfs.xfs mkfs.ext4 blockdev
# timeout: 600
# mem: 3G
# cpus: 1
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh

name=align0
device=/dev/mapper/$name
mnt=/run/liveblk-4kn
size=32M
seed=${LIVEBLK_SEED:-$RANDOM}

# Neighbours in one block of the device below, and offsets that straddle blocks.
use_device() {
	[ "$(blockdev --getss "$device")" = 512 ] || lb_fail "the device's sectors are not of 512 bytes"
	"$LIVEBLK_BUILD/bin/io-hazards" sectors "$device" --seed "$seed" --rounds 20 ||
		lb_fail "neighbouring sectors lose writes"
	local at
	for at in 512 3584 65024 130560 1048064; do
		qemu-io -f raw -t none -c "write -P 17 $((at + 2097152)) 1024" -c "read -P 17 $((at + 2097152)) 1024" \
			-c "read -P 0 $((at + 2097152 - 512)) 512" -c "read -P 0 $((at + 2097152 + 1024)) 512" \
			"$device" | grep -i 'failed\|error' && lb_fail "unaligned I/O at $at is wrong"
	done
	qemu-io -f raw -t none -c "discard 4194816 131072" -c "write -z 2097664 512" -c "read -P 0 2097664 512" \
		"$device" | grep -i 'failed\|error' && lb_fail "zeroing one sector is wrong"
	return 0
}

# Attaches, works, detaches, and lets QEMU compare.
use_image() { # IMAGE OPTION...
	local image=$1 log
	shift
	log=/run/liveblk-align-log
	lb_image "$image" "$size" "$@"
	dmesg -C
	lb_attach "$name" "$image"
	use_device
	qemu-img convert -f raw -O raw -T none "$device" /run/liveblk-model
	lb_detach "$name"
	dmesg >"$log"
	lb_check "$image"
	qemu-img compare -f raw -F qcow2 /run/liveblk-model "$image" >/dev/null ||
		lb_fail "the image differs from what the device showed"
}

expect_buffered() { # yes|no
	if [ "$1" = yes ]; then
		grep -qiE 'qcow2.*(buffered|no direct I.O)' /run/liveblk-align-log ||
			lb_fail "the kernel log does not say that I/O is buffered"
	elif grep -iE 'qcow2.*(buffered|no direct I.O)' /run/liveblk-align-log; then
		lb_fail "I/O is buffered although the file system has direct I/O"
	fi
}

has_direct_io() { # FILE
	dd if=/dev/zero of="$1" bs=4096 count=1 oflag=direct conv=notrunc status=none 2>/dev/null
}

lb_load
lb_step "seed $seed (LIVEBLK_SEED)"
disk=$(lb_4kn_disk 400)
mkdir -p "$mnt"
for fs in xfs ext4; do
	lb_step "a file on $fs on 4 KiB sectors"
	case $fs in
	xfs) mkfs.xfs -q -f "$disk" ;;
	ext4) mkfs.ext4 -q -F "$disk" ;;
	esac
	mount "$disk" "$mnt"
	for cluster in 4096 65536; do
		use_image "$mnt/image.qcow2" "cluster_size=$cluster"
		expect_buffered no
		rm "$mnt/image.qcow2"
	done
	umount "$mnt"
done

lb_step "an image on the block device with 4 KiB sectors"
for cluster in 4096 65536; do
	use_image "$disk" "cluster_size=$cluster"
done
rmmod scsi_debug

for fs in tmpfs ramfs; do
	lb_step "a file on $fs"
	mount -t "$fs" none "$mnt"
	buffered=no
	has_direct_io "$mnt/probe" || buffered=yes
	lb_step "buffered: $buffered"
	use_image "$mnt/image.qcow2" cluster_size=65536
	expect_buffered "$buffered"
	umount "$mnt"
done
lb_unload
