#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: power losses below the file system that holds an image leave no corruption
# needs: qemu-img dmsetup mkfs.xfs mkfs.ext4 jq
# timeout: 600
# mem: 3G
set -eu -o pipefail
. tests/vm/lib.sh
. tests/crash/scenario.sh

# file_scenario FILE-SYSTEM flush|fua POINTS MKFS-COMMAND...
file_scenario() {
	local fs=$1 by=$2 points=$3 lower=/run/crash/lower
	crash_name=file-on-$fs-$by
	crash_wanted "$crash_name" || return 0
	lb_step "$crash_name: an image of 8M in a file"
	shift 3
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
	case $by in
	flush) crash_write block /dev/mapper/crash-dev --cluster-size 16384 --ops 150 ;;
	fua) crash_write_fua /dev/mapper/crash-dev --cluster-size 16384 --ops 100 ;;
	esac
	lb_detach crash-dev
	umount "$lower"
	crash_log_stop
	crash_replay "$points" --lower-fs "$fs" --lower-mount /run/crash/lower-again --image-name image \
		--attach crash-again
}

run_all() {
	file_scenario ext4 flush 10 mkfs.ext4 -q
	file_scenario xfs flush 10 mkfs.xfs -q --unsupported
	file_scenario xfs fua 6 mkfs.xfs -q --unsupported
}

lb_load
crash_disks 48
crash_rounds run_all
lb_unload
crash_total
