#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: power losses while refcount blocks and the refcount table grow leave no corruption
# needs: qemu-img dmsetup jq
# timeout: 600
# mem: 3G
set -eu -o pipefail
. tests/vm/lib.sh
. tests/crash/scenario.sh

run_all() {
	# With 64-bit refcounts a block of 4 KiB covers 512 clusters: 2 MiB of the image.
	crash_scenario refcount-blocks 20 24M cluster_size=4K,refcount_bits=64 --ops 150 --burst-percent 40 --largest 65536
}

lb_load
crash_disks 40
crash_rounds run_all
lb_unload
crash_total
