#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: targets attached and detached under load, on a disk and on a partition: no error, no wrong byte, a clean fsck
# needs: dmsetup fio sfdisk mkfs.ext4 e2fsck mkfs.xfs xfs_repair mkfs.btrfs btrfs jq
# timeout: 900
# mem: 3G
# disks: 600M
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh
# shellcheck source=tests/vm/interposer-lib.sh
. tests/vm/interposer-lib.sh

cycles=$(bi_count 2 200)
original=
pauses=$lb_state/pauses

one_cycle() { # TABLE-REST
	local sectors
	sectors=$(bi_sectors "$original")
	blk-interpose create cyc0 --json --table "0 $sectors $1" >>"$pauses"
	bi_load_runs
	sleep "0.$((RANDOM % 10))"
	blk-interpose remove cyc0 --json >>"$pauses"
	bi_load_runs
	sleep "0.$((RANDOM % 5))"
}

# Snapshots come first, then the origin, as blk-interpose snapshot does it for one.
snapshot_cycle() { # HOW-MANY
	local sectors i lower names=()
	if [ "$1" = 0 ]; then
		one_cycle "snapshot-origin [interpose]$original"
		return
	fi
	sectors=$(bi_sectors "$original")
	blk-interpose snapshot "$original" cyc0 --cow "$cow" --json >>"$pauses"
	lower=/dev/$(blk-interpose list --json | jq -r '.[0].lower' | sed 's|/dev/||')
	for ((i = 1; i < $1; i++)); do
		fsfreeze -f "$bi_mnt"
		dmsetup suspend cyc0-origin
		dd if=/dev/zero of="/dev/mapper/cow$i" bs=64k count=1 oflag=direct status=none
		dmsetup create "cyc$i" --table "0 $sectors snapshot $lower /dev/mapper/cow$i P 16"
		dmsetup resume cyc0-origin
		fsfreeze -u "$bi_mnt"
		names+=("cyc$i")
		bi_load_runs
	done
	sleep "0.$((RANDOM % 10))"
	for i in ${names[@]+"${names[@]}"}; do
		fsfreeze -f "$bi_mnt"
		dmsetup suspend cyc0-origin
		dmsetup remove "$i"
		dmsetup resume cyc0-origin
		fsfreeze -u "$bi_mnt"
	done
	blk-interpose remove cyc0 --json >>"$pauses"
	bi_load_runs
}

all_targets() {
	local i
	for ((i = 0; i < cycles; i++)); do
		one_cycle "linear [interpose]$original 0"
		one_cycle "delay [interpose]$original 0 5"
		one_cycle "flakey [interpose]$original 0 3600 0"
		dd if=/dev/zero of=/dev/mapper/meta bs=64k count=1 oflag=direct status=none
		one_cycle "era /dev/mapper/meta [interpose]$original 128"
		snapshot_cycle 0
		snapshot_cycle 1
	done
	snapshot_cycle 3
}

run() { # TYPE DEVICE
	lb_step "$1 on $2, $cycles times each target"
	original=$2
	bi_mkfs "$1" "$original"
	mount "$original" "$bi_mnt"
	bi_start_load "$bi_mnt"
	all_targets
	bi_stop_load
	umount "$bi_mnt"
	bi_fsck "$1" "$original"
	bi_none_left
}

lb_load_interposer
modprobe -a dm-snapshot dm-delay dm-flakey dm-era
slice() { # NAME RAMDISK START SIZE
	dmsetup create "$1" --table "0 $4 linear $2 $3"
	dmsetup mknodes "$1"
}
ram=$(lb_ramdisk 700)
slice meta "$ram" 0 65536
slice cow0 "$ram" 65536 409600
slice cow1 "$ram" 475136 409600
slice cow2 "$ram" 884736 409600
cow=/dev/mapper/cow0
: >"$pauses"
run ext4 /dev/vda
if [ "${LIVEBLK_FULL:-0}" = 1 ] || [ ! -e /sys/kernel/debug/kmemleak ]; then
	run xfs /dev/vda
	bi_partition /dev/vda
	run btrfs /dev/vda1
	cycles=$(bi_count 1 200)
	run ext4 /dev/vda1
fi
jq -s 'map(."parked-ns" / 1e6) | sort | "held back, ms: median \(.[length / 2 | floor]), longest \(.[-1]) of \(length)"' "$pauses"
lb_unload_interposer
