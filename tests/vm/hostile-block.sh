#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: broken images on a block device that is longer than they are, those of tables and entries
# not-in-ci: not run in full since the last changes of the module
# needs: mkfs.xfs dmsetup
# timeout: 1800
#
# Environment: LIVEBLK_HOSTILE_ONLY, an expression that names of cases must match (all of them with
# LIVEBLK_FULL=1, which includes disks that end within a cluster; else tables and entries).
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh

only='^(v2-)?(l1|l2|reftable|refcounts|snapshots-offset|valid-v3-cluster-4096|valid-v3-cluster-65536)'
[ "${LIVEBLK_FULL:-0}" != 1 ] || only=

lb_load
dir=$(lb_scratch 400 xfs)
device=$(lb_ramdisk 400)
"$LIVEBLK_BUILD/bin/qcow2-hostile" run --dir "$dir" --device "$device" \
	--only "${LIVEBLK_HOSTILE_ONLY:-$only}" --log "$LIVEBLK_RESULTS/hostile-block-$KVER.log"
lb_unload
