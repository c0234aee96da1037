#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: power losses below the file system that holds the file of a loop-copy disk take nothing that was flushed
# needs: dmsetup mkfs.xfs mkfs.ext4
# timeout: 600
# mem: 3G
# first: yes
set -eu -o pipefail
. tests/vm/copy/lib.sh
. tests/crash/scenario.sh

# loop_scenario FILE-SYSTEM POINTS MKFS-COMMAND...: blocks of 4 KiB, so that a discard of one is zeros afterwards.
loop_scenario() {
	local fs=$1 points=$2 lower=/run/crash/lower disk
	crash_name=loop-on-$fs
	crash_wanted "$crash_name" || return 0
	lb_step "$crash_name: a disk in a file of 8M"
	shift 2
	mkdir -p "$lower"
	modprobe "$fs"
	crash_poison 0
	"$@" "$crash_disk"
	mount -t "$fs" "$crash_disk" "$lower"
	truncate -s 8M "$lower/disk"
	umount "$lower"
	crash_log_start
	mount -t "$fs" "$crash_store" "$lower"
	disk=$(cp_loop "$lower/disk")
	crash_write block "$disk" --cluster-size 4096 --ops 300 --flush-percent 15
	cp_loop_detach "$disk"
	umount "$lower"
	crash_log_stop
	crash_replay "$points" --raw --lower-fs "$fs" --lower-mount /run/crash/lower-again --image-name disk
}

run_all() {
	loop_scenario ext4 20 mkfs.ext4 -q -b 4096
	loop_scenario xfs 20 mkfs.xfs -q --unsupported
}

cp_load loop-copy
crash_disks 48
crash_rounds run_all
cp_unload loop-copy
crash_total
