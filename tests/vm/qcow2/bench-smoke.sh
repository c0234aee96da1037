#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: instruction time of mapped and first writes beside loop, dm-linear and qemu-nbd meets the aims
# needs: fio qemu-img qemu-nbd losetup jq mkfs.xfs mkfs.ext4
# timeout: 900
# mem: 3G
# icount: yes
# boot: own
set -eu -o pipefail
. tests/vm/lib.sh
BENCH_SMOKE=1 BENCH_MIB=32 BENCH_IOS=12000 \
	BENCH_PATHS='dm-linear loop-on-xfs nbd-on-xfs qcow2-on-xfs qcow2-on-block raw-data-on-block' bash tests/bench/guest.sh
. tests/bench/lib.sh

# The aims of the issue; this test is there to notice when a change loses them.
bench_ratios "$bench_out" >/run/ratios
jq -r '.[] | "\(.of) / \(.to), \(.workload): \(.ratio) (aim \(.aim))\(if .met then "" else ", NOT MET" end)"' /run/ratios
jq -e 'length >= 9' /run/ratios >/dev/null || lb_fail "figures are missing"
# An aim that is known to be missed has a floor in its place, so that it does not get worse unnoticed: reads of a file
# on XFS by 6.1 gave 1.46, with less than a twentieth of the instructions in our own functions; writes to one by 6.12.117
# give 4.97 times what qemu-nbd does.
floors='{}'
case $KVER in
6.1.*) floors='{"qcow2-on-xfs loop-on-xfs randread-4k-qd32": 1.43}' ;;
6.12.*) floors='{"qcow2-on-xfs nbd-on-xfs randwrite-4k-qd32": 4.9}' ;;
esac
jq -e --argjson floors "$floors" \
	'all(.[]; .ratio >= ($floors[.of + " " + .to + " " + .workload] // .aim))' /run/ratios >/dev/null ||
	lb_fail "an aim is missed"
