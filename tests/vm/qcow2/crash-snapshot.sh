#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: power losses during copy-on-write after internal snapshots leave no corruption
# needs: qemu-img dmsetup jq blockdev
# after: tests/crash/replay-on-host
# timeout: 600
# mem: 3G
# first: yes
set -eu -o pipefail
. tests/vm/lib.sh
. tests/crash/scenario.sh

run_all() {
	crash_scenario snapshots-64k 6 8M '' --ops 240 --snapshots 2 --dm-name crash-dev --image "$crash_store"
	crash_scenario snapshots-4k 6 8M cluster_size=4K --ops 180 --snapshots 2 --dm-name crash-dev \
		--image "$crash_store"
	crash_scenario snapshots-extended 6 8M extended_l2=on --ops 200 --snapshots 2 --dm-name crash-dev \
		--image "$crash_store"
}

lb_load
crash_disks 32
crash_rounds run_all
lb_unload
crash_total
