# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# The paths that are compared, and how one of them is measured; sourced after tests/vm/lib.sh, in a VM run with
# --icount: its clock counts instructions.

bench_mib=${BENCH_MIB:-128}
bench_ios=${BENCH_IOS:-6000}
bench_out=${LIVEBLK_RESULTS:?}/bench.jsonl
bench_xfs=/run/bench/xfs

# Every page of the disks and every cluster of the images exists before anything is measured.
bench_fill() {
	dd if=/dev/zero of="$1" bs=1M count="$bench_mib" oflag=direct status=none || lb_fail "cannot fill $1"
}

# RAM disks themselves: a slice by lb_ramdisk would add a layer to what is measured.
bench_mount() { # ext4|xfs DIRECTORY
	local disk=/dev/ram15
	[ "$1" = xfs ] || disk=/dev/ram14
	[ -b "$disk" ] || lb_fail "no $disk"
	mkdir -p "$2"
	modprobe "$1"
	case $1 in
	xfs) mkfs.xfs -q "$disk" ;;
	ext4) mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 "$disk" ;;
	esac
	mount -t "$1" "$disk" "$2"
}

# The functions below set bench_dev.
bench_raw() {
	bench_dev=$(lb_ramdisk "$bench_mib")
	bench_dev=/dev/ram${bench_dev##*[a-z]}
	bench_fill "$bench_dev"
}

bench_linear() {
	bench_dev=$(lb_ramdisk "$bench_mib")
	bench_fill "$bench_dev"
}

bench_loop() {
	truncate -s "${bench_mib}M" "$bench_xfs/raw.img"
	modprobe loop
	bench_dev=$(losetup -f --show --direct-io=on "$bench_xfs/raw.img")
	bench_fill "$bench_dev"
}

bench_nbd() { # IMAGE
	modprobe nbd max_part=0
	mkdir -p /run/lock
	qemu-nbd -c /dev/nbd0 -f qcow2 --cache=none --aio=native --discard=unmap "$1"
	bench_dev=/dev/nbd0
	until [ "$(blockdev --getsize64 /dev/nbd0)" -gt 0 ]; do sleep 0.1; done
}

bench_nbd_stop() {
	qemu-nbd -d /dev/nbd0 >/dev/null
	while [ -e /sys/block/nbd0/pid ]; do sleep 0.1; done
}

bench_qcow2() { # NAME IMAGE [ARGUMENT...]
	lb_attach "$@"
	bench_dev=/dev/mapper/$1
}

# bench_run PATH WORKLOAD RW BLOCK-SIZE DEPTH IOS: one line of JSON
bench_run() {
	local path=$1 workload=$2 rw=$3 bs=$4 depth=$5 ios=$6 iops
	iops=$(fio --output-format=json --name=bench --filename="$bench_dev" --ioengine=io_uring --direct=1 \
		--rw="$rw" --bs="$bs" --iodepth="$depth" --number_ios="$ios" --size="${bench_mib}M" --randseed=1 |
		jq '.jobs[0] | if .error != 0 then error("fio") else .read.iops + .write.iops end') ||
		lb_fail "fio $workload on $path"
	jq -cn --arg path "$path" --arg workload "$workload" --argjson iops "$iops" \
		'{path: $path, workload: $workload, iops: ($iops | round)}' | tee -a "$bench_out"
}

bench_mapped() { # PATH
	bench_run "$1" randread-4k-qd32 randread 4k 32 "$bench_ios"
	bench_run "$1" randwrite-4k-qd32 randwrite 4k 32 "$bench_ios"
	[ -z "${BENCH_SMOKE:-}" ] || return 0
	bench_run "$1" randread-4k-qd1 randread 4k 1 "$bench_ios"
	bench_run "$1" randwrite-4k-qd1 randwrite 4k 1 "$bench_ios"
	bench_run "$1" read-256k read 256k 8 $((bench_ios / 12))
	bench_run "$1" write-256k write 256k 8 $((bench_ios / 12))
}

# First writes: $1 is the path; $2 attaches a new image, $3 detaches it, both called with the image; BASE is below it.
bench_alloc() { # PATH ATTACH DETACH IMAGE [BASE]
	local path=$1 attach=$2 detach=$3 image=$4 create=(qemu-img create -q -f qcow2 ${5:+-F qcow2 -b "$5"})
	"${create[@]}" "$image" "${bench_mib}M"
	"$attach" "$image"
	bench_run "$path" alloc-4k-random randwrite 4k 32 $((bench_ios / 4))
	"$detach"
	[ -z "${BENCH_SMOKE:-}" ] || return 0
	"${create[@]}" "$image" "${bench_mib}M"
	"$attach" "$image"
	bench_run "$path" alloc-64k-sequential write 64k 32 $((bench_mib * 16))
	"$detach"
}

bench_allocated() { qemu-img check --output=json "$1" | jq '."allocated-clusters" // 0'; } # IMAGE

# A full image discarded as a whole, clusters a second until it is on disk and the image is let go of. Arguments as
# bench_alloc's; FULL is copied to IMAGE.
bench_discard() { # PATH ATTACH DETACH IMAGE FULL
	local path=$1 attach=$2 detach=$3 image=$4 full=$5 clusters left start took
	cp --sparse=always "$full" "$image"
	sync "$image"
	# All of them, and to have them counted takes long.
	clusters=$(qemu-img info --output=json "$image" | jq '."virtual-size" / ."cluster-size"')
	"$attach" "$image"
	start=$(date +%s%N)
	blkdiscard "$bench_dev"
	sync "$bench_dev"
	"$detach"
	took=$(($(date +%s%N) - start))
	left=$(bench_allocated "$image")
	# qemu-nbd leaves a cluster where one of the pieces ends that the kernel makes, of 2 or 4 GiB.
	[[ $path == nbd-* ]] || [ "$left" = 0 ] || lb_fail "$path has left $left of $clusters clusters"
	((left * 1000 < clusters)) || lb_fail "$path has discarded only $((clusters - left)) of $clusters clusters"
	rm "$image"
	jq -cn --arg path "$path" --argjson clusters "$clusters" --argjson took "$took" \
		'{path: $path, workload: "discard-full", iops: ($clusters * 1e9 / $took | round)}' | tee -a "$bench_out"
}

bench_attach_new() { bench_qcow2 bench-new "$1"; }
bench_detach_new() { lb_detach bench-new; }

# bench_ratios FILE: what the figures amount to, against the aims.
bench_ratios() {
	jq -s '
		(map({key: (.path + " " + .workload), value: .iops}) | from_entries) as $iops |
		[
			["qcow2-on-xfs", "loop-on-xfs", "randread-4k-qd32", 1.5],
			["qcow2-on-xfs", "loop-on-xfs", "randwrite-4k-qd32", 1.3],
			["qcow2-on-block", "dm-linear", "randread-4k-qd32", 0.95],
			["qcow2-on-block", "dm-linear", "randwrite-4k-qd32", 0.95],
			["raw-data-on-block", "dm-linear", "randread-4k-qd32", 0.93],
			["raw-data-on-block", "dm-linear", "randwrite-4k-qd32", 0.93],
			["bitmap-on-block", "qcow2-on-block", "randwrite-4k-qd32", 0.95],
			["qcow2-over-xfs", "nbd-over-xfs", "alloc-4k-random", 3],
			["qcow2-over-xfs", "nbd-over-xfs", "alloc-64k-sequential", 3],
			["qcow2-compressed", "nbd-compressed", "compressed-read-4k", 3],
			["qcow2-compressed", "nbd-compressed", "compressed-read-256k", 3],
			["qcow2-on-xfs", "nbd-on-xfs", "randread-4k-qd32", 5],
			["qcow2-on-xfs", "nbd-on-xfs", "randwrite-4k-qd32", 5],
			["qcow2-on-xfs", "nbd-on-xfs", "alloc-4k-random", 3],
			["qcow2-on-xfs", "nbd-on-xfs", "alloc-64k-sequential", 3],
			["qcow2-on-xfs", "nbd-on-xfs", "discard-full", 1],
			["qcow2-on-xfs", "loop-on-xfs", "read-256k", 1],
			["qcow2-on-xfs", "loop-on-xfs", "write-256k", 1]
		] | map(
			{of: .[0], to: .[1], workload: .[2], aim: .[3],
			 a: $iops[.[0] + " " + .[2]], b: $iops[.[1] + " " + .[2]]} |
			select(.a and .b) |
			{of, to, workload, aim, ratio: ((.a / .b * 100 | round) / 100)} |
			. + {met: (.ratio >= .aim)})' "$1"
}
