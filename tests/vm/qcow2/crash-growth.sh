#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: power losses while refcount blocks and the refcount table grow leave no corruption
# needs: qemu-img dmsetup jq
# after: tests/crash/replay-on-host
# timeout: 900
# mem: 6G
set -eu -o pipefail
. tests/vm/lib.sh
. tests/crash/scenario.sh

# Clusters of the refcount table, by the header of the image on the crashing disk.
table_clusters() { echo $((0x$(od -An -tx1 -j 56 -N 4 "$crash_disk" | tr -d ' '))); }

# A refcount table of one cluster reaches over 1 GiB at the least. A snapshot holds all of that but the last MiB, and
# what the workload allocates makes a larger table necessary.
refcount_table() {
	crash_name=refcount-table
	crash_wanted "$crash_name" || return 0
	lb_step "$crash_name"
	# A preallocated image shows what the disk held.
	dd if=/dev/zero of="$crash_disk" bs=1M count=64 oflag=direct status=none
	crash_poison 1000
	qemu-img create -q -f qcow2 -o cluster_size=4K,refcount_bits=64,preallocation=metadata "$crash_disk" 1018M
	qemu-img snapshot -c held "$crash_disk"
	qemu-img resize -q --shrink -f qcow2 "$crash_disk" 24M
	[ "$(table_clusters)" = 1 ] || lb_fail "the table is large from the beginning"
	crash_image 4 --ops 120 --burst-percent 40 --largest 65536
	[ "$(table_clusters)" -gt 1 ] || lb_fail "the refcount table has not grown: the test shows nothing"
}

run_all() {
	# With 64-bit refcounts a block of 4 KiB covers 512 clusters: 2 MiB of the image.
	crash_scenario refcount-blocks 6 24M cluster_size=4K,refcount_bits=64 --ops 150 --burst-percent 40 --largest 65536
}

lb_load
crash_disks 40
crash_rounds run_all
crash_disks 1056
crash_rounds refcount_table
lb_unload
crash_total
