#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: files that were fsynced into an ext4 on dm-qcow2 survive power losses
# needs: qemu-img dmsetup mkfs.ext4 e2fsck
# timeout: 600
# mem: 3G
set -eu -o pipefail
. tests/vm/lib.sh
. tests/crash/scenario.sh

# ext4_scenario NAME POINTS CREATE-OPTIONS
ext4_scenario() {
	crash_name=$1
	lb_step "$crash_name: ext4 on an image with ${3:-defaults}"
	crash_poison 0
	qemu-img create -q -f qcow2 ${3:+-o "$3"} "$crash_disk" 24M
	lb_attach crash-dev "$crash_disk"
	mkfs.ext4 -q -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 /dev/mapper/crash-dev
	lb_detach crash-dev
	crash_log_start
	lb_attach crash-dev "$crash_store"
	mkdir -p /run/crash/guest
	mount -o discard /dev/mapper/crash-dev /run/crash/guest
	crash_write files /run/crash/guest --files 60
	umount /run/crash/guest
	lb_detach crash-dev
	crash_log_stop
	crash_replay "$2" --attach crash-again --guest-fs ext4 --guest-mount /run/crash/guest-again
}

run_all() {
	ext4_scenario ext4 12 ''
	ext4_scenario ext4-lazy 6 lazy_refcounts=on,cluster_size=16K
}

lb_load
modprobe ext4
crash_disks 32
crash_rounds run_all
lb_unload
crash_total
