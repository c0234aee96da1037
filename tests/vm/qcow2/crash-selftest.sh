#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: the crash test finds the damage when writes that were promised are lost or torn
# needs: qemu-img dmsetup jq
# after: tests/crash/replay-on-host
# timeout: 600
# mem: 3G
# kernels: 6.12
set -eu -o pipefail
. tests/vm/lib.sh
. tests/crash/scenario.sh

# On the host, where no kernel is needed for it.
crash_on_host=$(
	echo
	printf -- "--expect-corrupt --sabotage %s\n" drop-data drop-l2 drop-refcounts tear-sectors
)
lb_load
crash_disks 14
crash_scenario untouched 4 8M '' --ops 120
crash_on_host=''
crash_flush_late=60
crash_scenario late 4 8M cluster_size=16K --ops 400 --flush-percent 15
# To the log a flush that begins later and ends sooner does not cover what the other one took: wrong as history, and so
# proof that the order of flushes counts.
crash_flush_in_turn=0
crash_on_host="--expect-corrupt"
crash_record out-of-turn 8M cluster_size=16K --ops 3000 --flush-percent 40 --burst-percent 0 --threads 16
lb_unload
crash_total
