#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: power losses below the file system that holds an image leave no corruption
# needs: qemu-img dmsetup mkfs.xfs mkfs.ext4 jq
# timeout: 600
# mem: 3G
set -eu -o pipefail
. tests/vm/lib.sh
. tests/crash/scenario.sh

# file_scenario FILE-SYSTEM POINTS DISK-MIB MKFS-COMMAND...
file_scenario() {
	local fs=$1 points=$2 lower=/run/crash/lower
	crash_name=file-on-$fs
	lb_step "$crash_name: an image of 8M in a file"
	shift 2
	mkdir -p "$lower"
	modprobe "$fs"
	crash_poison 0
	"$@" "$crash_disk"
	mount -t "$fs" "$crash_disk" "$lower"
	lb_image "$lower/image" 8M cluster_size=16K
	umount "$lower"
	crash_log_start
	mount -t "$fs" "$crash_store" "$lower"
	lb_attach crash-dev "$lower/image"
	crash_write block /dev/mapper/crash-dev --cluster-size 16384 --ops 150
	lb_detach crash-dev
	umount "$lower"
	crash_log_stop
	crash_replay "$points" --lower-fs "$fs" --lower-mount /run/crash/lower-again --image-name image \
		--attach crash-again
}

run_all() {
	file_scenario ext4 10 mkfs.ext4 -q
	file_scenario xfs 10 mkfs.xfs -q --unsupported
}

lb_load
crash_disks 48
crash_rounds run_all
lb_unload
crash_total
