#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# maint.sh SIZE...: qcow2-maint beside qemu-img on images of these sizes, fully allocated in their metadata, in turn and
# in one run. A line of JSON for each size. Times are the best of BENCH_RUNS (3), so that what else the machine does
# counts little; "cpu" is what the processors spent.
set -eu -o pipefail
repo=$(cd "$(dirname "$0")/../.." && pwd)
maint=$repo/build/bin/qcow2-maint
measure=$repo/build/bin/measure
runs=${BENCH_RUNS:-3}
work=$(mktemp -d "${BENCH_DIR:-${TMPDIR:-/tmp}}/liveblk-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Both begin with the same image in the page cache, and with nothing that is still to be written.
fresh() {
	cp --sparse=always "$work/base" "$work/image"
	sync "$work/image"
}

sample() { # TOOL OPERATION COMMAND...
	local tool=$1 operation=$2 result
	shift 2
	fresh
	result=$("$measure" "$@" 2>"$work/err")
	jq -e '.status == 0' >/dev/null <<<"$result" || { cat "$work/err" >&2; echo "maint.sh: failed: $*" >&2; exit 1; }
	jq -c --arg tool "$tool" --arg operation "$operation" '. + {tool: $tool, operation: $operation}' <<<"$result"
}

for size in "$@"; do
	qemu-img create -q -f qcow2 -o preallocation=metadata "$work/base" "$size"
	for ((run = 0; run < runs; run++)); do
		sample qemu create qemu-img snapshot -c one "$work/image"
		sample maint create "$maint" snapshot create "$work/image" one
		sample qemu check qemu-img check -q "$work/image"
		sample maint check "$maint" check "$work/image"
	done | jq -sc --arg size "$size" '
		def best(f): map(f) | min;
		def side: {wall: best(.wall), cpu: best(.user + .system), maxrss_kib: (map(.maxrss_kib) | max)};
		group_by(.operation) | map({key: .[0].operation, value: (
			{qemu: (map(select(.tool == "qemu")) | side), maint: (map(select(.tool == "maint")) | side)} |
			. + {wall_ratio: (.qemu.wall / .maint.wall), cpu_ratio: (.qemu.cpu / .maint.cpu)})}) |
		from_entries | {size: $size} + .'
	rm -f "$work/base" "$work/image"
done
