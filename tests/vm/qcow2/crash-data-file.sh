#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: power losses below an external data file, alone or beside its image, lose nothing that was promised
# needs: qemu-img dmsetup mkfs.ext4 blkdiscard jq
# timeout: 900
# mem: 3G
set -eu -o pipefail
. tests/vm/lib.sh
. tests/crash/scenario.sh

# raw_scenario NAME POINTS [mapped]: the data file is the disk that crashes, and the image lies elsewhere. What is read of
# a raw file needs no mapping; without "mapped" each first write has the image allocate.
raw_scenario() {
	local image=$crash_dir/$1.qcow2
	crash_wanted "$1" || return 0
	crash_name=$1
	lb_step "$crash_name: a raw data file of 8M"
	blkdiscard -z "$crash_disk"
	qemu-img create -q -f qcow2 -o "data_file=$crash_disk${3:+,data_file_raw=on}" "$image" 8M
	lb_raw_bit "$image"
	crash_log_start
	lb_attach crash-dev "$image" data_file "$crash_store"
	# What a raw disk without a command for zeros has of a discard is up to it.
	crash_write block /dev/mapper/crash-dev --cluster-size 65536 --discard-percent 0
	lb_detach crash-dev
	lb_check "$image"
	crash_log_stop
	crash_replay "$2" --raw
	rm "$image"
}

# both_scenario NAME POINTS OPTIONS: the image and its data file on the file system that crashes.
both_scenario() {
	# Where it is replayed, too: QEMU looks for the data file by its name.
	local lower=/run/crash/lower-again
	crash_wanted "$1" || return 0
	crash_name=$1
	lb_step "$crash_name: an image of 8M with a data file, $3"
	mkdir -p "$lower"
	crash_poison 0
	mkfs.ext4 -q -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "$crash_disk"
	mount "$crash_disk" "$lower"
	lb_image "$lower/image" 8M "data_file=$lower/data,$3"
	umount "$lower"
	crash_log_start
	mount "$crash_store" "$lower"
	lb_attach crash-dev "$lower/image" data_file "$lower/data"
	crash_write block /dev/mapper/crash-dev --cluster-size 16384 --ops 150
	lb_detach crash-dev
	umount "$lower"
	crash_log_stop
	crash_replay "$2" --lower-fs ext4 --lower-mount "$lower" --image-name image --data-name data --attach crash-again
}

run_all() {
	raw_scenario raw 20
	raw_scenario raw-mapped 10 mapped
	both_scenario both 12 cluster_size=16K
	both_scenario both-lazy 6 cluster_size=16K,lazy_refcounts=on
}

lb_load
modprobe ext4
crash_disks 40
crash_rounds run_all
lb_unload
crash_total
