#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: targets attached and detached under load, on a disk and on a partition: no error, no wrong byte, a clean fsck
# needs: dmsetup fio sfdisk mkfs.ext4 e2fsck mkfs.xfs xfs_repair mkfs.btrfs btrfs jq qemu-img
# timeout: 900
# mem: 3G
# disks: 600M
set -eu -o pipefail
# shellcheck source=tests/vm/interposer/lib.sh
. tests/vm/interposer/lib.sh

# By the tool, on ext4 unless their number is given, and by a program that does the same in one process.
cycles=${LIVEBLK_CYCLES:-1}
more=${LIVEBLK_MORE_CYCLES:-$(bi_count 1 200)}
seed=${LIVEBLK_SEED:-$RANDOM}
RANDOM=$seed
original=
pauses=$lb_state/pauses
ended=0
: >"$pauses"
: >"$pauses.more"

moment() { sleep "0.$((RANDOM % 4))$((RANDOM % 10))"; }

cycle() { # TABLE-REST
	blk-interpose create cyc --json --table "0 $(bi_sectors "$original") $1" >>"$pauses"
	bi_load_runs
	moment
	blk-interpose remove cyc --json >>"$pauses"
	bi_load_runs
	ended=$((ended + 1))
}

cycle_era() {
	dd if=/dev/zero of=/dev/mapper/meta bs=64k count=1 oflag=direct status=none
	cycle "era /dev/mapper/meta [interpose]$original 128"
}

# The origin goes from under the file system while it has a snapshot, and in cycle() while it has none.
cycle_snapshot() {
	blk-interpose snapshot "$original" cyc --cow /dev/mapper/cow0 --json >>"$pauses"
	bi_load_runs
	moment
	blk-interpose remove cyc --json >>"$pauses"
	bi_load_runs
	ended=$((ended + 1))
}

each_target() {
	cycle "linear [interpose]$original 0"
	cycle "delay [interpose]$original 0 5"
	cycle "flakey [interpose]$original 0 3600 0"
	cycle_era
	cycle "snapshot-origin [interpose]$original"
	cycle_snapshot
}

# What the two programs do for each target. The cycler attaches seven times a round: it takes three snapshots, too.
repeat() { # TYPE
	local i before by_tool=0
	if [ "$1" = ext4 ] || [ -n "${LIVEBLK_CYCLES:-}" ]; then by_tool=$cycles; fi
	for ((i = 0; i < by_tool; i++)); do each_target; done
	before=$(wc -l <"$pauses.more")
	interposer-cycler "$original" "$bi_mnt" "$more" "$RANDOM" /dev/mapper/{meta,cow0,cow1,cow2} >>"$pauses.more" ||
		lb_fail "interposer-cycler has failed"
	bi_load_runs
	[ $(($(wc -l <"$pauses.more") - before)) = $((14 * more)) ] || lb_fail "interposer-cycler has left something out"
	ended=$((ended + 7 * more))
}

run() { # TYPE DEVICE
	lb_step "$1 on $2, $more times each target"
	original=$2
	bi_mkfs "$1" "$original"
	mount -o discard "$original" "$bi_mnt"
	bi_start_load "$bi_mnt"
	repeat "$1"
	bi_stop_load
	umount "$bi_mnt"
	bi_fsck "$1" "$original"
}

# The device that dm-qcow2 has its image on, with a file system on top of that.
run_qcow2() { # DEVICE
	lb_step "dm-qcow2's image on $1, $more times each target"
	original=$1
	qemu-img create -q -f qcow2 "$original" 256M
	lb_attach vm "$original"
	bi_mkfs ext4 /dev/mapper/vm
	mount /dev/mapper/vm "$bi_mnt"
	bi_start_load "$bi_mnt"
	repeat qcow2
	bi_stop_load
	umount "$bi_mnt"
	bi_fsck ext4 /dev/mapper/vm
	lb_detach vm
	lb_check "$original"
}

slice() { # NAME RAMDISK START SIZE
	dmsetup create "$1" --table "0 $4 linear $2 $3"
}

lb_load_interposer
lb_load
modprobe -a dm-snapshot dm-delay dm-flakey dm-era
ram=$(lb_ramdisk 800)
slice meta "$ram" 0 65536
slice cow0 "$ram" 65536 409600
slice cow1 "$ram" 475136 409600
slice cow2 "$ram" 884736 409600
# Something else stays attached, so that the kernel does not patch its code under load, which QEMU does not emulate
# well: see --one-thread of scripts/vm. interposer-io attaches and detaches the only one.
other=$(lb_ramdisk 8)
blk-interpose create keeper --table "0 $(bi_sectors "$other") linear [interpose]$other 0"

echo "seed $seed"
run ext4 /dev/vda
run xfs /dev/vda
run btrfs /dev/vda
bi_partition /dev/vda
run ext4 /dev/vda1
run xfs /dev/vda1
run btrfs /dev/vda1
run_qcow2 /dev/vda1
blk-interpose remove keeper
bi_none_left
echo "$ended cycles; I/O was held back and file systems were frozen, in ms:"
jq -s -c '["parked-ns", "frozen-ns"][] as $k | map(.[$k] / 1e6) | sort |
	[$k, {median: .[length / 2 | floor], longest: .[-1], of: length}]' "$pauses" "$pauses.more"
lb_unload_interposer
