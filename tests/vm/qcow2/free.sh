#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: what is discarded neither piles up nor is missed when space is short; free clusters are used before a file grows
# needs: qemu-img qemu-io dmsetup fio mkfs.xfs blkdiscard python3
# timeout: 600
# mem: 3G
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh

name=free0
device=/dev/mapper/$name
mib=1048576
# The second of them costs a hole in a file for each.
scattered=${LIVEBLK_SCATTERED:-100000}
holes=${LIVEBLK_SCATTERED:-12000}

# An image with all clusters allocated, of 4 KiB, of which those that the first half of the disk is mapped to are the
# even ones: no two of them lie together.
scattered_image() { # FILE COUNT PREALLOCATION
	lb_image "$1" $(($2 * 8192)) -o cluster_size=4k -o preallocation="$3"
	python3 - "$1" <<-'END'
		import struct, sys
		with open(sys.argv[1], 'r+b') as image:
		    def load(offset, count):
		        image.seek(offset)
		        return struct.unpack(f'>{count}Q', image.read(8 * count))
		    image.seek(24)
		    size, _, l1_size, l1_offset = struct.unpack('>QIIQ', image.read(24))
		    tables = [entry & 0x00fffffffffffe00 for entry in load(l1_offset, l1_size)]
		    clusters = [entry for table in tables for entry in load(table, 512)][:size >> 12]
		    clusters = clusters[::2] + clusters[1::2]
		    for i, table in enumerate(tables):
		        part = clusters[i * 512:(i + 1) * 512]
		        image.seek(table)
		        image.write(struct.pack(f'>{len(part)}Q', *part))
	END
	lb_check "$1"
}

# How long it takes, in milliseconds.
timed() { # COMMAND...
	local start
	start=$(date +%s%N)
	"$@" || lb_fail "failed: $*"
	echo $((($(date +%s%N) - start) / 1000000))
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
	scattered_image "$disk" "$scattered" metadata
	lb_attach "$name" "$disk"
	blkdiscard -l 400k "$device"
	before=$(slab_kib)
	watch_slab /run/liveblk-slab &
	pid=$!
	echo "discard: $(timed blkdiscard -l $((scattered * 4096)) "$device") ms"
	sleep 0.3
	kill "$pid"
	wait "$pid" || true
	after=$(</run/liveblk-slab)
	echo "slab: $before KiB, then up to $after KiB"
	((after - before < 2048)) || lb_fail "discards have taken $((after - before)) KiB of slab"
	lb_detach "$name"
	lb_check "$disk"
}

test_suspend() {
	lb_step "$holes scattered clusters discarded: the suspend after it"
	local took discard image=$dir/disk.qcow2 before after
	scattered_image "$image" "$holes" falloc
	sync
	before=$(stat -c %b "$image")
	lb_attach "$name" "$image"
	discard=$(timed blkdiscard -l $((holes * 4096)) "$device")
	echo "discard: $discard ms"
	took=$(timed dmsetup suspend "$name")
	echo "suspend: $took ms"
	lb_check "$image"
	after=$(stat -c %b "$image")
	echo "blocks: $before, then $after"
	# The list of so many extents takes some.
	(((before - after) * 100 >= holes * 8 * 97)) || lb_fail "not all of the space was given back"
	dmsetup resume "$name"
	lb_detach "$name"
	rm "$image"
	# Beside other work all takes longer, and so does the discard, which must have done most of it.
	((took < 1000 || took * 2 < discard)) || lb_fail "the suspend took $took ms after a discard of $discard ms"
}

# Discards of what lies in pieces, many at once and beside writes: each needs more room than one is given.
test_pieces() {
	lb_step "discards of clusters in random order, beside writes"
	local image=$dir/pieces.qcow2
	lb_image "$image" 32M -o cluster_size=4k
	lb_attach "$name" "$image" cache_kib 64
	fio --output=/dev/null --name=fill --filename="$device" --rw=randwrite --bs=4k --direct=1 --ioengine=io_uring --iodepth=16
	fio --output=/dev/null --filename="$device" --time_based --runtime=5 --direct=1 \
		--name=trim --rw=randtrim --bs=2m --numjobs=4 --norandommap --size=32m \
		--name=write --rw=randwrite --bs=4k --numjobs=2 --norandommap --size=32m --ioengine=io_uring --iodepth=8
	blkdiscard "$device"
	must_hold raw "$device" 0 0 $((32 * mib))
	dmsetup message "$name" 0 commit
	lb_detach "$name"
	lb_check "$image"
	rm "$image"
}

dirty_blocks() { dmsetup status "$name" | awk '{ print $16 }'; }

test_short_of_space() {
	lb_step "a write that needs what a commit has in its hands"
	local disk below=/dev/mapper/freebelow commit write
	disk=$(lb_ramdisk 16)
	dmsetup create freebelow --table "0 $((16 * mib / 512)) linear $disk 0"
	lb_image "$below" 32M
	lb_attach "$name" "$below"
	must_give "No space left" if=/dev/zero of="$device" bs=64k oflag=direct
	dmsetup message "$name" 0 commit
	blkdiscard -l 64k "$device"
	# A commit that has begun, and cannot go on.
	dmsetup suspend --noflush --nolockfs freebelow
	dmsetup message "$name" 0 commit &
	commit=$!
	# It has taken what it writes when nothing is dirty any more.
	while (($(dirty_blocks) > 0)); do sleep 0.05; done
	dd if=/dev/zero of="$device" bs=64k seek=400 count=1 oflag=direct conv=notrunc status=none &
	write=$!
	sleep 1
	dmsetup resume freebelow
	wait "$write" || lb_fail "no space, although a discarded cluster was about to be free"
	wait "$commit" || lb_fail "the commit has failed"
	must_give "No space left" if=/dev/zero of="$device" bs=64k seek=401 count=1 oflag=direct conv=notrunc
	lb_detach "$name"
	lb_check "$below"
	dmsetup remove freebelow
}

size_of() { stat -c %s "$1"; }

test_growth() {
	lb_step "free clusters inside are used before the file grows"
	local image=$dir/grow.qcow2 before after
	# A block of refcounts is for 2 MiB; those from the 48th on have free ones.
	lb_image "$image" 256M -o cluster_size=4k -o refcount_bits=64
	qemu-io -f qcow2 -d unmap -c "write -q -P 1 0 128M" -c "discard -q 96M 16M" "$image"
	lb_check "$image"
	before=$(size_of "$image")
	lb_attach "$name" "$image"
	dd if=/dev/zero of="$device" bs=1M seek=200 count=12 oflag=direct conv=notrunc status=none
	lb_detach "$name"
	after=$(size_of "$image")
	echo "12 MiB written: $before bytes, then $after"
	lb_check "$image"
	((after <= before)) || lb_fail "the file has grown by $((after - before)) bytes with 16 MiB in it free"
	must_hold qcow2 "$image" 1 0 $((96 * mib))
	rm "$image"
}

test_tail() {
	lb_step "a free tail is cut off"
	local image=$dir/tail.qcow2 first full after
	lb_image "$image" 64M
	first=$(size_of "$image")
	lb_attach "$name" "$image"
	dd if=/dev/zero of="$device" bs=1M count=64 oflag=direct status=none
	dmsetup suspend "$name"
	full=$(size_of "$image")
	dmsetup resume "$name"
	blkdiscard -o 1M -l 63M "$device"
	lb_detach "$name"
	after=$(size_of "$image")
	echo "file: $first bytes, full $full, discarded $after"
	((full >= 64 * mib)) || lb_fail "the file was not filled"
	((after < 3 * mib)) || lb_fail "$after bytes are left of the file, where 1 MiB is used"
	lb_check "$image"

	# What lies beyond the clusters of an image is somebody else's.
	truncate -s +8M "$image"
	lb_attach "$name" "$image"
	blkdiscard "$device"
	lb_detach "$name"
	(($(size_of "$image") == after + 8 * mib)) || lb_fail "what lay beyond the image was cut off"
	lb_check "$image"
	rm "$image"
}

parts=(slab suspend pieces short_of_space growth tail)
# Memory and time are bounded for kernels that do not watch over each of our steps.
[ ! -e /sys/kernel/debug/kmemleak ] || parts=(pieces short_of_space growth tail)
lb_load
dir=$(lb_scratch $((holes / 128 + 300)) xfs)
for part in ${LIVEBLK_PARTS:-"${parts[@]}"}; do
	"test_$part"
done
umount "$dir"
lb_unload
