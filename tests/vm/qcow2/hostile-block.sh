#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: broken images on a block device that is longer than they are, those of tables and entries
# needs: mkfs.xfs dmsetup
# timeout: 1800
# cpus: 1
# first: yes
#
# Environment: LIVEBLK_HOSTILE_ONLY, an expression that names of cases must match (all of them with
# LIVEBLK_FULL=1; else every third of those that a block device makes a difference for).
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh

only='file-ends|^(v2-)?(l1|l2|reftable|refcounts|snapshots-offset|valid-v3-cluster-4096|valid-v3-cluster-65536)'
share=(--every 3 --first $((($(lb_kernel_number) + 1) % 2)))
[ "${LIVEBLK_FULL:-0}" != 1 ] || only='' share=()
[ -z "${LIVEBLK_HOSTILE_ONLY:-}" ] || share=()

lb_load
dir=$(lb_scratch 400 xfs)
device=$(lb_ramdisk 400)
"$LIVEBLK_BUILD/bin/qcow2-hostile" run --dir "$dir" --device "$device" \
	--only "${LIVEBLK_HOSTILE_ONLY:-$only}" ${share[@]+"${share[@]}"} --log "$LIVEBLK_RESULTS/hostile-block-$KVER.log"
lb_unload
