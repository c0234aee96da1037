#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: instruction time: a shared copy is 50 times faster than dd, a plain one no slower; loop-copy beats loop by 1.3
# needs: fio jq losetup mkfs.xfs mkfs.ext4 filefrag
# timeout: 900
# mem: 4G
# icount: yes
# boot: own
#
# Environment: LIVEBLK_COPY_MIB, what is copied on XFS (1024).
set -eu -o pipefail
# shellcheck source=tests/vm/copy/lib.sh
. tests/vm/copy/lib.sh
BENCH_SMOKE=1
bench_mib=32
BENCH_MIB=$bench_mib BENCH_IOS=8000
# shellcheck source=tests/bench/lib.sh
. tests/bench/lib.sh

# Both tell how long it took without their own start, for which the VM waits for the host.
seconds_copy() { blk-copy --json "$1" "$1:${2}m" "${2}m" | jq -e .seconds || lb_fail "blk-copy on $1"; } # DISK MIB

seconds_by_hand() { # DISK MIB: reads and writes what blk-copy copies
	LC_ALL=C dd if="$1" of="$1" bs=1M count="$2" seek="$2" iflag=direct oflag=direct conv=notrunc 2>&1 |
		sed -n 's/.* copied, \([^ ]*\) s,.*/\1/p'
}

fill_mib() { # FILE MIB
	dd if=/dev/zero of="$1" bs=1M count="$2" oflag=direct conv=notrunc status=none || lb_fail "cannot fill $1"
}

ratio() { echo "$1 $2" | awk '{ printf "%.2f", $1 / $2 }'; }
at_least() { # RATIO AIM WHAT
	echo "$3: $1 (aim $2)"
	awk -v r="$1" -v aim="$2" 'BEGIN { exit !(r >= aim) }' || lb_fail "$3: $1, and not $2"
}

bench_shared() {
	local size=${LIVEBLK_COPY_MIB:-1024} disk copy dd before after
	lb_step "$size MiB on XFS"
	truncate -s $((size * 2))M "$bench_xfs/big.img"
	fill_mib "$bench_xfs/big.img" "$size"
	disk=$(cp_loop "$bench_xfs/big.img")
	before=$(df --output=avail -B1 "$bench_xfs" | tail -n 1)
	copy=$(seconds_copy "$disk" "$size")
	sync -f "$bench_xfs"
	after=$(df --output=avail -B1 "$bench_xfs" | tail -n 1)
	echo "space used: $((before - after)) bytes"
	((before - after < mib)) || lb_fail "the copy took $((before - after)) bytes"
	filefrag -v "$bench_xfs/big.img" | grep -q shared || lb_fail "nothing is shared"
	blkdiscard -o $((size * mib)) -l $((size * mib)) "$disk"
	dd=$(seconds_by_hand "$disk" "$size")
	[ -n "$dd" ] || lb_fail "dd on $disk"
	echo "blk-copy $copy s, dd $dd s"
	at_least "$(ratio "$dd" "$copy")" 50 "dd / blk-copy, $size MiB on XFS"
	cp_loop_detach "$disk"
	rm "$bench_xfs/big.img"
}

bench_plain() {
	local size=$((${LIVEBLK_COPY_MIB:-1024} / 4)) disk copy dd
	lb_step "$size MiB on ext4"
	truncate -s $((size * 2))M "$1/big.img"
	fill_mib "$1/big.img" $((size * 2))
	disk=$(cp_loop "$1/big.img")
	copy=$(seconds_copy "$disk" "$size")
	dd=$(seconds_by_hand "$disk" "$size")
	[ -n "$dd" ] || lb_fail "dd on $disk"
	echo "blk-copy $copy s, dd $dd s"
	at_least "$(ratio "$dd" "$copy")" 1 "dd / blk-copy, $size MiB on ext4"
	cp_loop_detach "$disk"
	rm "$1/big.img"
}

bench_loops() {
	lb_step "4 KiB random I/O, depth 32"
	local workload
	bench_loop
	bench_mapped loop
	losetup -d "$bench_dev"
	bench_dev=$(cp_loop "$bench_xfs/raw.img")
	bench_mapped loop-copy
	cp_loop_detach "$bench_dev"
	for workload in randread-4k-qd32 randwrite-4k-qd32; do
		at_least "$(jq -s --arg w $workload 'map(select(.workload == $w)) | (map({(.path): .iops}) | add) |
			.["loop-copy"] / .loop * 100 | round / 100' "$bench_out")" 1.3 "loop-copy / loop, $workload"
	done
}

export BENCH_SMOKE
: >"$bench_out"
cp_load loop-copy
mkdir -p /run/bench
modprobe brd
bench_mount xfs "$bench_xfs"
bench_mount ext4 /run/bench/ext4
bench_loops
bench_shared
bench_plain /run/bench/ext4
umount "$bench_xfs" /run/bench/ext4
cp_unload loop-copy
