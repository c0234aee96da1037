#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: the debug kernel reports a leak and an access out of bounds, and the runner fails for it
# debug: full
set -eu -o pipefail
# shellcheck source=tests/runner/lib.sh
. "$(dirname "$0")/lib.sh"

kernel=debug-$newest
ko=$(build_complain "$kernel") || fail "the module that complains could not be built"

echo "a write behind the end of an allocation"
expect 125 --kernel "$kernel" --timeout 900 -- insmod "$ko" what=overrun
said "KASAN: slab-out-of-bounds in complain_init"

echo "memory that nothing refers to any more"
expect 125 --kernel "$kernel" --timeout 900 -- bash -c "insmod $ko what=leak; rmmod complain"
said "vm: kmemleak report"
said "size 512"
