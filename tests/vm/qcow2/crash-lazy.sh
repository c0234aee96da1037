#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: power losses with lazy refcounts leave what qemu-img check -r all makes whole
# needs: qemu-img dmsetup jq
# after: tests/crash/replay-on-host
# timeout: 600
# mem: 3G
set -eu -o pipefail
. tests/vm/lib.sh
. tests/crash/scenario.sh

run_all() {
	crash_scenario lazy 6 8M lazy_refcounts=on
	crash_scenario lazy-4k 6 8M lazy_refcounts=on,cluster_size=4K --ops 200
}

lb_load
crash_disks 14
crash_rounds run_all
lb_unload
crash_total
