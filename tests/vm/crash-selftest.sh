#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: the crash test finds the damage when writes that were promised are lost or torn
# needs: qemu-img dmsetup jq
# timeout: 400
# mem: 3G
# kernels: 6.12
set -eu -o pipefail
. tests/vm/lib.sh
. tests/crash/scenario.sh

lb_load
crash_disks 14
crash_scenario untouched 4 8M '' --ops 120
for kind in drop-data drop-l2 drop-refcounts tear-sectors; do
	lb_step "$kind must be noticed"
	"$crash_bin/crash-replay" --log "$crash_log" --base "$crash_dir/base" --history "$crash_dir/history" \
		--target "$crash_target" --seed "$crash_seed" --points 6 --sabotage "$kind" --expect-corrupt |
		cut -c1-160 || lb_fail "$kind went unnoticed, seed $crash_seed"
done
lb_unload
crash_total
