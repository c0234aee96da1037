#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: instruction time of mapped and first writes beside loop, dm-linear and qemu-nbd is near the aims
# needs: fio qemu-img qemu-nbd losetup jq mkfs.xfs mkfs.ext4
# timeout: 900
# mem: 3G
# icount: yes
set -eu -o pipefail
. tests/vm/lib.sh
BENCH_SMOKE=1 BENCH_MIB=32 BENCH_IOS=12000 \
	BENCH_PATHS='dm-linear loop-on-xfs nbd-on-xfs qcow2-on-xfs qcow2-on-block' bash tests/bench/guest.sh
. tests/bench/lib.sh

# The aims of the issue; this test is there to notice when a change loses them.
bench_ratios "$bench_out" >/run/ratios
jq -r '.[] | "\(.of) / \(.to), \(.workload): \(.ratio) (aim \(.aim))\(if .met then "" else ", NOT MET" end)"' /run/ratios
jq -e 'length >= 7' /run/ratios >/dev/null || lb_fail "figures are missing"
# A run this short has steps of some per cent; make bench is what decides whether an aim is met.
jq -e 'all(.[]; .ratio >= .aim * 0.9)' /run/ratios >/dev/null || lb_fail "an aim is missed by more than a tenth"
