#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: a snapshot of a busy file system has the files of its moment; dm-era's record is what was written, in granules
# needs: dmsetup mkfs.ext4 e2fsck mkfs.xfs xfs_repair mkfs.btrfs btrfs jq era_invalidate
# timeout: 400
# cpus: 1
# disks: 512M 512M
# one-thread: yes
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/interposer/lib.sh
. tests/vm/interposer/lib.sh

snap=/run/snap
steps=$lb_state/steps
mkdir -p "$snap"

mount_snapshot() { # TYPE
	case $1 in
	ext4) mount -o ro,noload /dev/mapper/moment "$snap" ;;
	# A frozen XFS leaves something in its log on purpose, which is replayed into the snapshot.
	xfs) mount -o ro,nouuid /dev/mapper/moment "$snap" ;;
	# The kernel knows a btrfs by its UUID, so that the two cannot be mounted at the same time.
	btrfs)
		btrfs device scan --forget
		mount -o ro /dev/mapper/moment "$snap" ;;
	esac || lb_fail "the snapshot of $1 cannot be mounted"
}

check_moment() { # TYPE
	mount_snapshot "$1"
	interposer-tree check "$snap/tree" "$from" "$to" || lb_fail "the snapshot of $1 is of no moment"
	umount "$snap"
	bi_fsck "$1" /dev/mapper/moment
}

test_snapshot() { # TYPE
	lb_step "a snapshot of a busy $1"
	local writer from to later
	bi_mkfs "$1" /dev/vda
	mount /dev/vda "$bi_mnt"
	mkdir "$bi_mnt/tree"
	interposer-tree write "$bi_mnt/tree" "$steps" &
	writer=$!
	sleep "1.$((RANDOM % 10))"
	from=$(<"$steps")
	blk-interpose snapshot /dev/vda moment --cow /dev/vdb
	to=$(($(<"$steps") + 1))
	sleep 1
	[ "$1" = btrfs ] || check_moment "$1"
	later=$(<"$steps")
	((later > to + 10)) || lb_fail "the file system is not busy: $to steps, then $later"
	kill -0 "$writer" || lb_fail "the writer has stopped"
	kill -KILL "$writer"
	wait "$writer" || true
	# Once more: what is written later does not change it.
	if [ "$1" = btrfs ]; then umount "$bi_mnt"; fi
	check_moment "$1"
	blk-interpose remove moment
	bi_none_left
	if [ "$1" = btrfs ]; then
		btrfs device scan --forget
		mount /dev/vda "$bi_mnt"
	fi
	interposer-tree check "$bi_mnt/tree" "$(<"$steps")" "$(($(<"$steps") + 1))" || lb_fail "files are not what was written"
	umount "$bi_mnt"
	bi_fsck "$1" /dev/vda
}

test_era() {
	lb_step "the record of a disk that is being written all the time"
	local log=$lb_state/extents t0 t1 t2 t3 t4 t5 t6 t7 writer
	interposer-blocks write /dev/vda "$log" &
	writer=$!
	sleep 1
	t0=$(interposer-blocks now)
	blk-interpose track /dev/vda era0 --meta /dev/vdb --block 128
	t1=$(interposer-blocks now)
	sleep 2
	t2=$(interposer-blocks now)
	blk-interpose changes era0 --since 0 --json >"$lb_state/first"
	t3=$(interposer-blocks now)
	sleep 2
	t4=$(interposer-blocks now)
	blk-interpose changes era0 --since "$(jq .next "$lb_state/first")" --json >"$lb_state/second"
	t5=$(interposer-blocks now)
	t6=$(interposer-blocks now)
	blk-interpose remove era0
	t7=$(interposer-blocks now)
	kill -TERM "$writer"
	wait "$writer" || lb_fail "a write has failed"
	# To try the target, an attach writes what the first block holds.
	{ cat "$log" && echo "$t0 $t1 0 4096"; } >"$lb_state/and-trial"
	interposer-blocks check "$lb_state/and-trial" "$lb_state/first" "$t0" "$t1" "$t2" "$t3" || lb_fail "the first record is wrong"
	interposer-blocks check "$log" "$lb_state/second" "$t2" "$t3" "$t4" "$t5" || lb_fail "the second record is wrong"
	echo "the longest write, in ms: while attaching $(interposer-blocks longest "$log" "$t0" "$t1")," \
		"while attached $(interposer-blocks longest "$log" "$t1" "$t6")," \
		"while detaching $(interposer-blocks longest "$log" "$t6" "$t7")"
	bi_none_left
}

lb_load_interposer
for type in ext4 xfs btrfs; do test_snapshot "$type"; done
test_era
lb_unload_interposer
