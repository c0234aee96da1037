#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: power losses under random writes to images on a block device leave no corruption
# needs: qemu-img dmsetup jq
# after: tests/crash/replay-on-host
# timeout: 600
# mem: 3G
set -eu -o pipefail
. tests/vm/lib.sh
. tests/crash/scenario.sh

run_all() {
	crash_scenario plain 8 8M ''
	crash_scenario clusters-4k 8 8M cluster_size=4K --ops 200
	crash_scenario refcounts-64 8 8M cluster_size=16K,refcount_bits=64 --ops 200
	crash_scenario refcounts-1 8 8M cluster_size=8K,refcount_bits=1 --ops 200
	crash_scenario version-2 8 8M compat=0.10,cluster_size=16K --ops 200
	crash_scenario erasing 8 8M cluster_size=16K --discard-percent 25 --zero-percent 20
}

lb_load
crash_disks 14
crash_rounds run_all
lb_unload
crash_total
