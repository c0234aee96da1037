#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: power losses under random writes to images on a block device leave no corruption
# needs: qemu-img qemu-io dmsetup jq
# after: tests/crash/replay-on-host
# timeout: 600
# mem: 3G
# first: yes
set -eu -o pipefail
. tests/vm/lib.sh
. tests/crash/scenario.sh

# Clusters that the image has already and that read as zeros: what is written there changes no refcount, and is to be
# durable before the L2 entries all the same.
zero_clusters() {
	crash_name=zero-clusters
	crash_wanted "$crash_name" || return 0
	lb_step "$crash_name"
	crash_poison 0
	qemu-img create -q -f qcow2 -o cluster_size=4K,preallocation=metadata "$crash_disk" 8M
	qemu-io -f qcow2 -c "write -q -z 0 8M" "$crash_disk"
	qemu-img map -f qcow2 --output=json "$crash_disk" | jq -e 'all(.zero and .offset)' >/dev/null ||
		lb_fail "not all of the image is zero clusters that have their place"
	crash_image 4 --ops 200 --discard-percent 0 --zero-percent 0
}

# While a commit waits for a slow disk, many threads unlink clusters and take others: one that is free too early is soon
# in use again, and holds what belongs elsewhere if the power fails.
busy_commits() {
	crash_flush_late=40
	crash_write_late=10
	crash_scenario busy-4k 6 8M cluster_size=4K --threads 16 --ops 900 --largest 16384 --flush-percent 8 \
		--discard-percent 30 --zero-percent 6
	crash_scenario busy-64k 4 8M '' --threads 16 --ops 400 --flush-percent 8 --discard-percent 30
	crash_flush_late=0
	crash_write_late=0
}

only_fua() {
	crash_name=only-fua
	crash_wanted "$crash_name" || return 0
	lb_step "$crash_name"
	crash_poison 0
	qemu-img create -q -f qcow2 -o cluster_size=16K "$crash_disk" 8M
	crash_log_start
	lb_attach crash-dev "$crash_store"
	crash_write_fua /dev/mapper/crash-dev --cluster-size 16384 --ops 150
	lb_detach crash-dev
	crash_log_stop
	crash_replay 10 --attach crash-again
}

run_all() {
	busy_commits
	zero_clusters
	only_fua
	crash_scenario refcounts-64 4 8M cluster_size=16K,refcount_bits=64 --ops 200
	crash_scenario refcounts-1 4 8M cluster_size=8K,refcount_bits=1 --ops 200 --discard-percent 25 --zero-percent 20
	crash_scenario version-2 4 8M compat=0.10,cluster_size=16K --ops 200
}

lb_load
crash_disks 14
crash_rounds run_all
lb_unload
crash_total
