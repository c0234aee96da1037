#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: the crash test finds the damage when writes that were promised are lost or torn
# needs: qemu-img dmsetup jq
# timeout: 600
# mem: 3G
# kernels: 6.12
set -eu -o pipefail
. tests/vm/lib.sh
. tests/crash/scenario.sh

notice() { # ARGUMENT...
	"$crash_bin/crash-replay" --log "$crash_log" --base "$crash_dir/base" --history "$crash_dir/history" \
		--target "$crash_target" --seed "$crash_seed" --expect-corrupt "$@" |
		cut -c1-160 || lb_fail "it went unnoticed, seed $crash_seed"
}

lb_load
crash_disks 14
crash_scenario untouched 4 8M '' --ops 120
for kind in drop-data drop-l2 drop-refcounts tear-sectors; do
	lb_step "$kind must be noticed"
	notice --points 6 --sabotage "$kind"
done

crash_flush_late=60
crash_scenario late 40 8M cluster_size=16K --ops 400 --flush-percent 15
# To the log a flush that begins later and ends sooner does not cover what the other one took: wrong as history, and so
# proof that the order of flushes counts.
crash_flush_in_turn=0
crash_record out-of-turn 8M cluster_size=16K --ops 3000 --flush-percent 40 --burst-percent 0 --threads 16
lb_step "flushes that overtake each other in the log must be noticed"
notice --points 60
lb_unload
crash_total
