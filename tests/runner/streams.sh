#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: output streams while the command runs; results, disks and copy-on-write work on both kernels
set -eu -o pipefail
# shellcheck source=tests/runner/lib.sh
. "$(dirname "$0")/lib.sh"

# Prints when the line came, in seconds before the VM's end.
seconds_before_end() {
	scripts/vm run --smp 1 --kernel "$1" -- bash -c 'echo first; sleep 8; echo last' 2>"$work/err" |
		while read -r line; do echo "$line $SECONDS"; done >"$work/out" || fail "the VM failed"
	awk '{ t[$1] = $2 } END { print t["last"] - t["first"] }' "$work/out"
}

echo "a line arrives when it is written"
lead=$(seconds_before_end "$newest")
[ "$lead" -ge 4 ] || fail "the first line came $lead seconds before the last, which was written 8 seconds later"

for kernel in "${tested_versions[@]}"; do
	echo "results, a disk, much output and a private root on $kernel"
	rm -rf "$work/results"
	# shellcheck disable=SC2016 # expanded in the VM
	expect 0 --kernel "$kernel" --disk 64M --results "$work/results" -- bash -c '
		set -e
		[ "$(blockdev --getsize64 /dev/vda)" = $((64 << 20)) ]
		echo "$(uname -r)" >"$LIVEBLK_RESULTS/release"
		echo written >README.written-in-a-vm
		seq 200000'
	[[ $(cat "$work/results/release") == "$kernel".* ]] || fail "results do not come back"
	[ ! -e README.written-in-a-vm ] || fail "a VM wrote to the host's files"
	seq 200000 | cmp - "$work/out" || fail "output was lost or changed"
done
