#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: what is discarded neither piles up nor is missed when space is short; free clusters are used before a file grows
# needs: qemu-img qemu-io dmsetup jq fio mkfs.xfs blkdiscard
# timeout: 600
# mem: 3G
# debug: yes
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh

name=free0
device=/dev/mapper/$name
mib=1048576
scattered=${LIVEBLK_SCATTERED:-50000}

# Every other cluster of 4 KiB, so that no two lie together.
discard_scattered() { # COUNT
	fio --output-format=json --name=scatter --filename="$device" --rw=trim:4k --bs=4k --number_ios="$1" \
		--size=$(($1 * 8192)) | jq -e '.jobs[0] | if .error != 0 then error("fio") else .trim.iops | round end'
}

slab_kib() { awk '$1 == "SUnreclaim:" { print $2 }' /proc/meminfo; }

# Leaves the largest value in a file, until it is killed.
watch_slab() { # FILE
	local now most=0
	while :; do
		now=$(slab_kib)
		if ((now > most)); then
			most=$now
			echo "$most" >"$1"
		fi
		sleep 0.1
	done
}

test_slab() {
	lb_step "$scattered scattered clusters discarded: memory"
	local disk before after pid
	disk=$(lb_ramdisk $((scattered / 128 + 64)))
	# A block device, because a file system remembers its holes in memory of the same kind.
	lb_image "$disk" $((scattered * 8192)) -o cluster_size=4k -o preallocation=metadata
	lb_attach "$name" "$disk"
	discard_scattered 100 >/dev/null
	before=$(slab_kib)
	watch_slab /run/liveblk-slab &
	pid=$!
	echo "$(discard_scattered "$scattered") discards a second"
	sleep 0.3
	kill "$pid"
	wait "$pid" || true
	after=$(</run/liveblk-slab)
	echo "slab: $before KiB, then up to $after KiB"
	((after - before < 4096)) || lb_fail "discards have taken $((after - before)) KiB of slab"
	lb_detach "$name"
	lb_check "$disk"
}

test_suspend() {
	lb_step "$scattered scattered clusters discarded: the suspend after it"
	local start took image=$dir/disk.qcow2 before after
	lb_image "$image" $((scattered * 8192)) -o cluster_size=4k -o preallocation=falloc
	sync
	before=$(stat -c %b "$image")
	lb_attach "$name" "$image"
	start=$(date +%s%N)
	echo "$(discard_scattered "$scattered") discards a second"
	echo "discards: $((($(date +%s%N) - start) / 1000000)) ms"
	start=$(date +%s%N)
	dmsetup suspend "$name"
	took=$((($(date +%s%N) - start) / 1000000))
	echo "suspend: $took ms"
	lb_check "$image"
	after=$(stat -c %b "$image")
	echo "blocks: $before, then $after"
	((before - after >= scattered * 8)) || lb_fail "not all of the space was given back"
	dmsetup resume "$name"
	lb_detach "$name"
	rm "$image"
	((took < 1000)) || lb_fail "the suspend took $took ms"
}

lb_load
dir=$(lb_scratch $((scattered / 128 + 200)) xfs)
test_slab
test_suspend
umount "$dir"
lb_unload
