#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: hundreds of broken images in files are refused or fail the right I/O, with one line of log
# needs: mkfs.xfs dmsetup
# timeout: 1500
# cpus: 1
# first: yes
#
# Each kernel takes every other case, of which there are more than 500, or all with LIVEBLK_FULL=1.
# Environment: LIVEBLK_HOSTILE_ONLY, an expression that names of cases must match (default all).
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh

share=(--every 2 --first $((($(lb_kernel_number) + 1) % 2)))
[ "${LIVEBLK_FULL:-0}" != 1 ] || share=()
[ -z "${LIVEBLK_HOSTILE_ONLY:-}" ] || share=()

lb_load
dir=$(lb_scratch 400 xfs)
lb_step "$("$LIVEBLK_BUILD/bin/qcow2-hostile" list | wc -l) cases are known"
"$LIVEBLK_BUILD/bin/qcow2-hostile" run --dir "$dir" --only "${LIVEBLK_HOSTILE_ONLY:-}" ${share[@]+"${share[@]}"} \
	--log "$LIVEBLK_RESULTS/hostile-$KVER.log"
lb_unload
