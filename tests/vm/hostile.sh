#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: hundreds of broken images in files are refused or fail the right I/O, with one line of log
# not-in-ci: not run in full since the last changes of the module
# needs: mkfs.xfs dmsetup
# timeout: 1800
#
# Environment: LIVEBLK_HOSTILE_ONLY, an expression that names of cases must match (default all).
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh

lb_load
dir=$(lb_scratch 400 xfs)
lb_step "$("$LIVEBLK_BUILD/bin/qcow2-hostile" list | wc -l) cases are known"
"$LIVEBLK_BUILD/bin/qcow2-hostile" run --dir "$dir" --only "${LIVEBLK_HOSTILE_ONLY:-}" \
	--log "$LIVEBLK_RESULTS/hostile-$KVER.log"
lb_unload
