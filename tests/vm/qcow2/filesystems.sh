#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: ext4, xfs and btrfs live on dm-qcow2, also above their own kind, and are clean afterwards
# needs: qemu-img dmsetup fio fstrim sha256sum mkfs.ext4 e2fsck mkfs.xfs xfs_repair mkfs.btrfs btrfs
# timeout: 1200
# mem: 3G
# cpus: 1
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh

name=fs0
device=/dev/mapper/$name
mnt=/run/liveblk-upper
manifest=/run/liveblk-manifest
fio_size=3m
# Everything is several times slower there.
[ ! -e /sys/kernel/debug/kmemleak ] || fio_size=1m

make_fs() { # TYPE
	case $1 in
	ext4) mkfs.ext4 -q -F "$device" ;;
	xfs) mkfs.xfs -q -f "$device" ;;
	btrfs) mkfs.btrfs -q -f "$device" >/dev/null ;;
	esac
}

check_fs() { # TYPE
	local log=/run/liveblk-fsck
	case $1 in
	ext4) e2fsck -fn "$device" ;;
	xfs) xfs_repair -n "$device" ;;
	btrfs) btrfs check "$device" ;;
	esac >"$log" 2>&1 || {
		tail -n 30 "$log"
		lb_fail "the $1 file system is not clean"
	}
}

# A real tree, and one file with holes. The source is compared too, so it is read once, before.
fill_tree() {
	mkdir "$mnt/tree"
	cp -r "$source_tree/." "$mnt/tree/"
	truncate -s 20M "$mnt/tree/sparse"
	printf end | dd of="$mnt/tree/sparse" bs=1 seek=15000000 conv=notrunc status=none
	(cd "$mnt/tree" && find . -type f -print0 | sort -z | xargs -0 sha256sum) >"$manifest"
}

verify_tree() {
	(cd "$mnt/tree" && sha256sum --quiet -c "$manifest") || lb_fail "files have changed"
}

# Each job writes and verifies a file of its own, with fsync between.
verify_fio() {
	fio --minimal --name=verify --directory="$mnt" --numjobs=4 --size=$fio_size --rw=randwrite --bsrange=512-64k \
		--ioengine=io_uring --iodepth=8 --direct=1 --fsync=32 --verify=crc32c --do_verify=1 --verify_fatal=1 \
		--randseed="${LIVEBLK_SEED:-1}" >/run/liveblk-fio || {
		cat /run/liveblk-fio
		lb_fail "fio found wrong data"
	}
}

# Files removed, trimmed, and others written in their place.
churn() {
	rm -rf "$mnt/tree/linux"
	rm -f "$mnt"/verify.*
	grep -v '  \./linux/' "$manifest" >"$manifest.left"
	mv "$manifest.left" "$manifest"
	sync -f "$mnt"
	fstrim "$mnt" || lb_fail "fstrim on $1 failed"
	cp -r "$source_tree/linux" "$mnt/again"
	verify_tree
}

use_fs() { # TYPE
	make_fs "$1"
	mount "$device" "$mnt"
	fill_tree
	verify_fio
	umount "$mnt"
	check_fs "$1"
	mount "$device" "$mnt"
	verify_tree
	churn "$1"
	umount "$mnt"
	check_fs "$1"
}

# The file system must be the same after the image has been closed and opened.
use_again() { # TYPE
	mount "$device" "$mnt"
	verify_tree
	diff -r "$source_tree/linux" "$mnt/again" || lb_fail "files have changed while detached"
	umount "$mnt"
}

run_pair() { # UPPER LOWER IMAGE OPTION...
	local upper=$1 lower=$2 image=$3
	shift 3
	lb_step "$upper on dm-qcow2 on $lower ($*)"
	lb_image "$image" 320M "$@"
	lb_attach "$name" "$image"
	use_fs "$upper"
	lb_detach "$name"
	lb_check "$image"
	lb_attach "$name" "$image"
	use_again "$upper"
	lb_detach "$name"
	lb_check "$image"
}

run_on_file() { # UPPER LOWER OPTION...
	local upper=$1 lower=$2 dir
	shift 2
	dir=$(lb_scratch 512 "$lower")
	run_pair "$upper" "$lower" "$dir/disk.qcow2" "$@"
	rm "$dir/disk.qcow2"
}

# Where checksums are computed below, pages that are written must not change, also if it is overlayfs that says nothing.
test_stable() {
	lb_step "stable writes"
	local dir merged file dm
	dir=$(lb_scratch 300 btrfs)
	merged=$(lb_overlay "$dir")
	for file in "$dir/disk.qcow2" "$merged/disk.qcow2"; do
		lb_image "$file" 8M
		lb_attach "$name" "$file"
		dm=dm-$(dmsetup info -c --noheadings -o minor "$name")
		[ "$(cat "/sys/block/$dm/queue/stable_writes")" = 1 ] || lb_fail "pages written to $file may change"
		lb_detach "$name"
		rm "$file"
	done
	umount -R "$dir"
}

lb_load
mkdir -p "$mnt"
source_tree=$(lb_scratch 64 tmpfs)
mkdir "$source_tree/linux" "$source_tree/asm"
cp -r /usr/include/linux/[a-f]* /usr/include/linux/netfilter "$source_tree/linux/"
cp -r /usr/include/asm-generic/. "$source_tree/asm/"

run_on_file ext4 xfs
run_on_file ext4 ext4 -o cluster_size=4k
run_on_file xfs xfs -o lazy_refcounts=on
run_on_file btrfs btrfs -o cluster_size=1M
run_on_file btrfs xfs -o cluster_size=16k
ram=$(lb_ramdisk 512)
run_pair xfs "a block device" "$ram" -o cluster_size=128k
test_stable
lb_unload
