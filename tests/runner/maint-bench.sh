#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: qcow2-maint takes snapshots and checks several times faster than qemu-img, in bounded memory (64 GiB)
set -eu -o pipefail
# shellcheck source=tests/runner/lib.sh
. "$(dirname "$0")/lib.sh"

# A short form of make bench-maint. Time of the processors in one run, which what else runs here changes little, and
# bounds with room to the aims: starting a program has a larger share in a small image.
BENCH_RUNS=3 BENCH_DIR=$work tests/bench/maint.sh 64G >"$work/out" 2>"$work/err" || fail "the bench failed"
cat "$work/out"
jq -e '.create.cpu_ratio >= 2 and .check.cpu_ratio >= 2 and
	.create.maint.maxrss_kib < 65536 and .check.maint.maxrss_kib < 65536' "$work/out" >/dev/null || fail "too slow, or too large"
