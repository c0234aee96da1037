#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: journals above journals, a frozen file system, a cached image and mtime do no harm
# needs: qemu-img dmsetup mkfs.ext4 mkfs.xfs mkfs.btrfs e2fsck xfs_repair btrfs fio fsfreeze
# timeout: 900
# mem: 2G
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh

name=hazard0
device=/dev/mapper/$name
upper=/run/liveblk-hazard
fio_size=1m
declare -A scratch=()

use_scratch() { # FS: sets $dir
	[ -n "${scratch[$1]:-}" ] || scratch[$1]=$(lb_scratch 384 "$1")
	dir=${scratch[$1]}
}

make_upper() { # FS
	case $1 in
	ext4) mkfs.ext4 -q -F "$device" ;;
	xfs) mkfs.xfs -q -f "$device" ;;
	btrfs) mkfs.btrfs -q -f "$device" 2>/dev/null ;;
	esac
	mkdir -p "$upper"
	mount "$device" "$upper"
}

check_upper() { # FS
	case $1 in
	ext4) e2fsck -fn "$device" ;;
	xfs) xfs_repair -n "$device" ;;
	btrfs) btrfs check "$device" ;;
	esac >/run/liveblk-fsck 2>&1 || {
		tail -n 20 /run/liveblk-fsck
		lb_fail "the upper $1 is not clean"
	}
}

run_fio() { # NAME OPTION...
	fio --minimal --name="$1" --size=$fio_size --rw=randwrite --bsrange=512-32k --verify=crc32c \
		--do_verify=1 --verify_fatal=1 --randseed="${LIVEBLK_SEED:-7}" "${@:2}" >/run/liveblk-fio-"$1" 2>&1 || {
		cat "/run/liveblk-fio-$1"
		lb_fail "fio $1 found wrong data"
	}
}

# Each fsync above is a journal commit above, that waits for one below.
journals_above_journals() { # FS
	lb_step "$1 on dm-qcow2 on $1"
	use_scratch "$1"
	lb_image "$dir/journal.qcow2" 320M lazy_refcounts=off
	lb_attach "$name" "$dir/journal.qcow2"
	make_upper "$1"
	run_fio journal --directory="$upper" --numjobs=4 --ioengine=psync --fsync=1 &
	local fio=$!
	for ((i = 0; i < 10; i++)); do
		sync
		sync -f "$dir"
		sleep 0.2
	done
	wait "$fio" || lb_fail "writing with fsync failed"
	umount "$upper"
	check_upper "$1"
	lb_detach "$name"
	lb_check "$dir/journal.qcow2"
	rm "$dir/journal.qcow2"
}

# Writers above wait for the thaw, and nothing of theirs is lost.
frozen_below() { # FS
	lb_step "a frozen $1 below"
	use_scratch "$1"
	lb_image "$dir/frozen.qcow2" 64M
	lb_attach "$name" "$dir/frozen.qcow2"
	run_fio before --filename="$device" --ioengine=psync --direct=1 --fsync=16
	fsfreeze -f "$dir"
	run_fio during --filename="$device" --offset=32m --ioengine=psync --direct=1 --fsync=16 &
	local fio=$!
	sleep 3
	kill -0 "$fio" 2>/dev/null || {
		fsfreeze -u "$dir"
		lb_fail "a write went through to a frozen file system"
	}
	timeout 20 dd if="$device" of=/dev/null bs=64k count=64 iflag=direct status=none || {
		fsfreeze -u "$dir"
		lb_fail "reads do not work while the file system below is frozen"
	}
	fsfreeze -u "$dir"
	wait "$fio" || lb_fail "the writer failed after the thaw"
	lb_detach "$name"
	lb_check "$dir/frozen.qcow2"
	rm "$dir/frozen.qcow2"
}

# Somebody copies the image while it is in use: the page cache must not get in the way.
cached_by_a_reader() { # FS
	lb_step "a reader of the image on $1 while it is written"
	use_scratch "$1"
	lb_image "$dir/cached.qcow2" 32M
	cat "$dir/cached.qcow2" >/dev/null
	lb_attach "$name" "$dir/cached.qcow2"
	while :; do cat "$dir/cached.qcow2" >/dev/null; done &
	local reader=$!
	run_fio cached --filename="$device" --numjobs=1 --size=12m --ioengine=io_uring --iodepth=8 --direct=1 --fsync=64
	kill "$reader"
	wait "$reader" 2>/dev/null || true
	qemu-img convert -f raw -O raw "$device" "$dir/liveblk-model"
	lb_detach "$name"
	lb_check "$dir/cached.qcow2"
	qemu-img compare -f raw -F qcow2 "$dir/liveblk-model" "$dir/cached.qcow2" >/dev/null ||
		lb_fail "through the page cache the image differs from the device"
	qemu-img compare -T none -f raw -F qcow2 "$dir/liveblk-model" "$dir/cached.qcow2" >/dev/null ||
		lb_fail "on the disk the image differs from the device"
	rm "$dir/cached.qcow2" "$dir/liveblk-model"
}

# A write over a hole and an allocated cluster takes a cluster for the hole alone: the other one is
# written in place by others at the same time.
no_needless_copies() { # FS
	lb_step "a write over a hole and a cluster on $1"
	use_scratch "$1"
	lb_image "$dir/span.qcow2" 16M
	lb_attach "$name" "$dir/span.qcow2"
	qemu-io -f raw -t none -c 'write -P 1 64k 64k' -c 'write -P 2 32k 64k' -c 'read -P 2 32k 64k' \
		-c 'read -P 1 96k 32k' -c 'read -P 0 0 32k' "$device" | grep -i 'failed' && lb_fail "wrong data"
	# shellcheck disable=SC2046
	set -- $(dmsetup status "$name")
	# Two clusters and an L2 table.
	[ "$5 $6 ${13}" = "3 0 0" ] || lb_fail "allocated, freed, copied are $5 $6 ${13} and not 3 0 0"
	lb_detach "$name"
	lb_check "$dir/span.qcow2"
	rm "$dir/span.qcow2"
}

mtime_of() { stat -c %.Y "$1"; }

write_and_flush() {
	dd if=/dev/urandom of="$device" bs=4096 count=8 oflag=direct conv=notrunc,fsync status=none
}

# Backup programs go by it.
truthful_mtime() { # FS
	lb_step "mtime on $1"
	use_scratch "$1"
	lb_image "$dir/mtime.qcow2" 16M
	lb_attach "$name" "$dir/mtime.qcow2"
	local before after what
	for what in "a first write" "a write in place" "another write in place"; do
		before=$(mtime_of "$dir/mtime.qcow2")
		sleep 1.1
		write_and_flush
		after=$(mtime_of "$dir/mtime.qcow2")
		[[ $after > $before ]] || lb_fail "mtime is still $after after $what"
	done
	sleep 1.1
	dd if="$device" of=/dev/null bs=4096 count=64 iflag=direct status=none
	[ "$(mtime_of "$dir/mtime.qcow2")" = "$after" ] || lb_fail "mtime changed by reading"
	lb_detach "$name"
	lb_check "$dir/mtime.qcow2"
	rm "$dir/mtime.qcow2"
}

lb_load
no_needless_copies xfs
for fs in ext4 xfs btrfs; do
	journals_above_journals "$fs"
done
for fs in ext4 xfs; do
	frozen_below "$fs"
done
for fs in ext4 xfs btrfs; do
	cached_by_a_reader "$fs"
	truthful_mtime "$fs"
done
lb_unload
