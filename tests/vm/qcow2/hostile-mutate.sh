#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: random damage to metadata never harms the kernel, and never a refused image
# needs: mkfs.xfs dmsetup
# timeout: 3000
# cpus: 1
#
# Environment: LIVEBLK_SEED, the seed; LIVEBLK_MUTATIONS, how many images (default 50, on files and
# on a block device in turns; 2000 with LIVEBLK_FULL=1).
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh

seed=${LIVEBLK_SEED:-$((RANDOM * 32768 + RANDOM))}
count=50
[ "${LIVEBLK_FULL:-0}" != 1 ] || count=2000
count=${LIVEBLK_MUTATIONS:-$count}
half=$(((count + 1) / 2))
lb_step "seed $seed: LIVEBLK_SEED=$seed LIVEBLK_MUTATIONS=$count repeats this"

lb_load
dir=$(lb_scratch 400 xfs)
device=$(lb_ramdisk 400)
"$LIVEBLK_BUILD/bin/qcow2-hostile" mutate --seed "$seed" --count "$half" --dir "$dir" \
	--log "$LIVEBLK_RESULTS/mutate-$KVER.log"
"$LIVEBLK_BUILD/bin/qcow2-hostile" mutate --seed "$seed" --first "$half" --count "$half" \
	--dir "$dir" --device "$device" --log "$LIVEBLK_RESULTS/mutate-block-$KVER.log"
lb_unload
