#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: a copy needs what its descriptors are open for, and nothing else helps; malformed calls do no harm
# needs: sha256sum
# timeout: 200
# debug: yes
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/vm/copy-lib.sh
. tests/vm/copy-lib.sh

calls=20000
[ "${LIVEBLK_FULL:-0}" != 1 ] || calls=2000000
cp_load loop-copy null-copy
disk=$(cp_null security size=16)
chmod 600 "$disk"
cp_fill "$disk" 0 $((16 * mib))
lb_step "descriptors passed to nobody"
copy-powers "$disk"
cp_same "$disk" 0 "$disk" 65536 65536
copy-watched "$disk"

lb_step "malformed calls"
truncate -s 1M /run/fuzz.img
sum=$(cp_sum "$disk" $mib $((15 * mib)))
copy-fuzz "$calls" "$disk" /run/fuzz.img
[ "$(cp_sum "$disk" $mib $((15 * mib)))" = "$sum" ] || lb_fail "something changed where nothing was to be copied"
[ "$(blk-copy loop list --json)" = "[]" ] || lb_fail "a disk is left: $(blk-copy loop list)"
cp_null_remove security
cp_unload loop-copy null-copy
