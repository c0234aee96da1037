#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: compressed clusters, zlib and zstd: written over, discarded, copied, shared with snapshots, on files and disks
# needs: qemu-img qemu-io dmsetup blkdiscard fallocate mkfs.ext4 jq
# cpus: 1
# timeout: 600
# mem: 2G
# first: yes
#
# Environment: LIVEBLK_SEED; LIVEBLK_PARTS, some of "change rewritten place" (default all).
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/compressed.sh
. tests/lib/compressed.sh

change_image() { # CLUSTER TYPE [OPTION]
	local image=$dir/change.qcow2 before
	compress "$source" "$image" "$@"
	cp "$source" "$model"
	lb_attach "$name" "$image"
	# What is kept of a cluster is not what is read once it was written over.
	dd if="$device" of=/dev/null bs=1M iflag=direct status=none
	write_over "$1"
	fresh
	same_as_model "$name"
	# A discard leaves parts of clusters alone.
	zero_both "$name" $((2 * mib)) $(($1 > mib ? $1 : mib))
	zero_both "$name" $((3 * mib + 4096)) $((mib / 2 + 512)) -z
	zero_both "$name" 0 $((2 * $1 < mib ? 2 * $1 : mib)) -z
	fresh
	same_as_model "$name"

	dmsetup suspend "$name"
	lb_check "$image"
	qemu-img snapshot -c before "$image"
	cp "$model" "$model.before"
	dmsetup resume "$name"
	same_as_model "$name"
	write_over "$1"
	blk-copy "$device:$((15 * mib / 4 + 4096))" "$device:$mib" $((mib + 8192))
	dd if="$model" of="$model" bs=4k skip=$((15 * 64 + 1)) seek=256 count=258 conv=notrunc status=none
	zero_both "$name" $((4 * mib)) $(($1 > mib ? $1 : mib))
	fresh
	same_as_model "$name"
	finish "$image"
	rm -f "$dir/out"
	qemu-img convert -f qcow2 -O raw -l snapshot.name=before "$image" "$dir/out"
	cmp "$dir/out" "$model.before" || lb_fail "the snapshot has changed"
	"$maint" snapshot delete "$image" before || lb_fail "cannot delete the snapshot"
	lb_check "$image"

	# All of it, so that no reference to what was compressed is left.
	lb_attach "$name" "$image"
	on_both "$name" -c "write -q -P 3 0 $((4 * mib))"
	zero_both "$name" $((4 * mib)) $((size - 4 * mib))
	same_as_model "$name"
	dmsetup message "$name" 0 commit
	finish "$image"
	[ "$(compressed_clusters "$image")" = 0 ] || lb_fail "there are compressed clusters left"
}

part_change() {
	each_kind change_image
	lb_step "version 2, written over"
	change_image 65536 zlib compat=0.10
	lb_step "refcounts of 64 bits, lazy"
	change_image 65536 zlib refcount_bits=64,lazy_refcounts=on
}

# Other data of the same length, in the same place.
rewritten() { # TYPE
	bad=$dir/rewritten.qcow2
	rm -f "$bad"
	qemu-img create -q -f qcow2 -o "compression_type=$1" "$bad" 1M
	qemu-io -f qcow2 -c "write -q -c -P 1 0 64k" "$bad"
	local before
	before=$(number_at "$bad" "$(entry_at 0)")
	lb_attach "$name" "$bad"
	must_hold raw "$device" 1 0 64k
	dmsetup suspend "$name"
	qemu-io -f qcow2 -c "discard 0 64k" "$bad" >/dev/null
	qemu-io -f qcow2 -c "write -q -c -P 2 0 64k" "$bad"
	[ "$before" = "$(number_at "$bad" "$(entry_at 0)")" ] || lb_fail "QEMU has put it elsewhere"
	dmsetup resume "$name"
	must_hold raw "$device" 2 0 64k
	lb_detach "$name"
}

part_rewritten() {
	local type
	for type in zlib zstd; do
		lb_step "$type, written anew by QEMU while it is suspended"
		rewritten "$type"
	done
}

# The image ends with the compressed cluster, in a sector.
cut_image() { # FILE TYPE
	local bytes=$((mib + 512 * 5))
	truncate -s 0 "$model"
	truncate -s "$bytes" "$model"
	qemu-img create -q -f qcow2 -o "compression_type=$2" "$1" "$bytes"
	head -c 60000 "$source" >"$dir/last"
	head -c $((512 * 5)) "$source" | dd of="$model" bs=512 seek=$((mib / 512)) conv=notrunc status=none
	rm -f "$dir/small"
	head -c $((512 * 5)) "$source" >"$dir/small"
	qemu-io -f qcow2 -c "write -q -c -s $dir/small $mib $((512 * 5))" "$1"
}

compressed_on() { # DISK IMAGE
	dd if="$2" of="$1" bs=1M oflag=direct conv=sync status=none
	cp "$source" "$model"
	lb_attach "$name" "$1"
	same_as_model "$name"
	write_over 65536
	fresh
	same_as_model "$name"
	finish "$1"
}

part_place() {
	local type image=$dir/cut.qcow2 bytes
	for type in zlib zstd; do
		lb_step "$type, the last cluster is cut by the file's end"
		cut_image "$image" "$type"
		bytes=$(stat -c %s "$image")
		((bytes % 512)) || echo "QEMU has filled the sector up"
		lb_attach "$name" "$image"
		same_as_model "$name"
		on_both "$name" -c "write -q -P 4 $((mib + 512)) 1024"
		fresh
		same_as_model "$name"
		finish "$image"
	done
	lb_step "on a block device, and on one of 4096-byte sectors"
	compress "$source" "$image" 65536 zlib
	compressed_on "$(lb_ramdisk 64)" "$image"
	compressed_on "$(lb_4kn_disk 64)" "$image"
	rmmod scsi_debug
}

begin_packed
for part in ${LIVEBLK_PARTS:-change rewritten place}; do
	"part_$part"
done
lb_unload
