#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Measures every path, or those in BENCH_PATHS, in a VM run with --icount; scripts/run-bench starts it.
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/bench/lib.sh
. tests/bench/lib.sh

bench_profile() { # WORKLOAD RW: where the instructions go, on the device at hand
	local data=/run/bench/perf.data fio
	fio --output=/dev/null --name=profile --ioengine=io_uring --direct=1 --bs=4k --iodepth=32 --filename="$bench_dev" \
		--rw="$2" --time_based --runtime=600 --size="${bench_mib}M" --randseed=1 &
	fio=$!
	# Its start is not what is to be seen.
	sleep 3
	# A prime number of instructions, so that the samples do not keep step with what repeats.
	perf record -q -a -e cpu-clock -c 20011 -o "$data" -- sleep 1
	kill -TERM "$fio"
	wait "$fio" || true
	{
		echo "== $1: share of instructions by function"
		perf report -i "$data" --stdio --no-children -g none --percent-limit 0.7 --sort dso,symbol 2>/dev/null |
			grep -v '^#' | grep -v '^$' | sed 's/[ -]*$//' | head -40
	} >>"$LIVEBLK_RESULTS/profile.txt"
}

brd() {
	bench_raw
	bench_mapped brd
}

dm-linear() {
	bench_linear
	bench_mapped dm-linear
}

loop-on-xfs() {
	bench_loop
	bench_mapped loop-on-xfs
	losetup -d "$bench_dev"
	rm "$bench_xfs/raw.img"
}

nbd-on-xfs() {
	local image=$bench_xfs/nbd.qcow2
	qemu-img create -q -f qcow2 "$image" "${bench_mib}M"
	bench_nbd "$image"
	bench_fill "$bench_dev"
	bench_mapped nbd-on-xfs
	bench_nbd_stop
	bench_alloc nbd-on-xfs bench_nbd bench_nbd_stop "$image"
	rm "$image"
}

qcow2_on_file() { # FILE-SYSTEM
	local image=/run/bench/$1/vm.qcow2
	qemu-img create -q -f qcow2 "$image" "${bench_mib}M"
	bench_qcow2 "bench-$1" "$image"
	bench_fill "$bench_dev"
	bench_mapped "qcow2-on-$1"
	if [ "$1" = xfs ] && [ -z "${BENCH_SMOKE:-}" ]; then
		bench_profile "4 KiB random reads, queue depth 32, image on XFS" randread
		bench_profile "4 KiB random writes, queue depth 32, image on XFS" randwrite
	fi
	lb_detach "bench-$1"
	bench_alloc "qcow2-on-$1" bench_attach_new bench_detach_new "$image"
	lb_check "$image"
	rm "$image"
}

qcow2-on-xfs() { qcow2_on_file xfs; }
qcow2-on-ext4() { qcow2_on_file ext4; }

qcow2-on-block() {
	local image=/dev/ram13
	qemu-img create -q -f qcow2 "$image" "${bench_mib}M"
	blockdev --flushbufs "$image"
	bench_qcow2 bench-block "$image"
	bench_fill "$bench_dev"
	bench_mapped qcow2-on-block
	[ -n "${BENCH_SMOKE:-}" ] ||
		bench_profile "4 KiB random reads, queue depth 32, image on a block device" randread
	lb_detach bench-block
	bench_alloc qcow2-on-block bench_attach_new bench_detach_new "$image"
}

raw-data-on-block() {
	local image=$bench_xfs/raw-data.qcow2 disk=/dev/ram12
	qemu-img create -q -f qcow2 -o "data_file=$disk,data_file_raw=on" "$image" "${bench_mib}M"
	bench_qcow2 bench-raw-data "$image" data_file "$disk"
	bench_fill "$bench_dev"
	bench_mapped raw-data-on-block
	lb_detach bench-raw-data
	rm "$image"
}

# With one bitmap that records, of the smallest granules that requests have here; none of them is marked at first.
bitmap-on-block() {
	local image=/dev/ram11
	qemu-img create -q -f qcow2 "$image" "${bench_mib}M"
	blockdev --flushbufs "$image"
	qemu-img bitmap --add -g 4k "$image" recorded
	bench_qcow2 bench-bitmap "$image"
	bench_fill "$bench_dev"
	dmsetup suspend bench-bitmap
	qemu-img bitmap --clear "$image" recorded
	dmsetup resume bench-bitmap
	bench_run bitmap-on-block randwrite-4k-qd32 randwrite 4k 32 "$bench_ios"
	lb_detach bench-bitmap
}

bench_attach_over() { bench_qcow2 bench-new "$1" backing qcow2 "$bench_xfs/base.qcow2"; }

# First writes where there is something below.
overlay() {
	local image=$bench_xfs/overlay.qcow2 base=$bench_xfs/base.qcow2
	qemu-img create -q -f qcow2 -o preallocation=full "$base" "${bench_mib}M"
	bench_alloc nbd-over-xfs bench_nbd bench_nbd_stop "$image" "$base"
	bench_alloc qcow2-over-xfs bench_attach_over bench_detach_new "$image" "$base"
	rm "$image" "$base"
}

bench_read_compressed() { # PATH
	bench_run "$1" compressed-read-4k read 4k 32 "$bench_ios"
	bench_run "$1" compressed-read-256k read 256k 8 $((bench_ios / 12))
}

# Text of numbers, which zlib makes a third of.
compressed() {
	local image=$bench_xfs/compressed.qcow2 text=$bench_xfs/text
	seq 1000000 99999999 | head -c "${bench_mib}M" >"$text" || true
	qemu-img convert -c -f raw -O qcow2 "$text" "$image"
	rm "$text"
	bench_nbd "$image"
	bench_read_compressed nbd-compressed
	bench_nbd_stop
	bench_qcow2 bench-compressed "$image"
	bench_read_compressed qcow2-compressed
	lb_detach bench-compressed
	rm "$image"
}

discard() {
	local full=$bench_xfs/full.qcow2 image=$bench_xfs/discard.qcow2
	qemu-img create -q -f qcow2 -o preallocation=metadata "$full" "${BENCH_DISCARD:-64G}"
	bench_discard nbd-on-xfs bench_nbd bench_nbd_stop "$image" "$full"
	bench_discard qcow2-on-xfs bench_attach_new bench_detach_new "$image" "$full"
	rm "$full"
}

: >"$bench_out"
lb_load
mkdir -p /run/bench
modprobe brd || lb_fail "brd cannot be loaded"
bench_mount xfs "$bench_xfs"
bench_mount ext4 /run/bench/ext4
for path in ${BENCH_PATHS:-brd dm-linear loop-on-xfs nbd-on-xfs qcow2-on-xfs qcow2-on-ext4 qcow2-on-block raw-data-on-block bitmap-on-block overlay compressed discard}; do
	"$path"
done
umount "$bench_xfs" /run/bench/ext4
lb_unload
