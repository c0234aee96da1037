#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: a copy needs what its descriptors are open for, and nothing else helps; malformed calls do no harm
# needs: sha256sum
# timeout: 200
# cpus: 1
# debug: yes
set -eu -o pipefail
# shellcheck source=tests/vm/copy/lib.sh
. tests/vm/copy/lib.sh

calls=20000
[ "${LIVEBLK_FULL:-0}" != 1 ] || calls=2000000
cp_load loop-copy null-copy
disk=$(cp_null security size=16)
chmod 600 "$disk"
cp_fill "$disk" 0 $((16 * mib))
lb_step "descriptors passed to nobody"
copy-powers "$disk"
cp_same "$disk" 0 "$disk" 65536 65536

# No security module here knows of disks: it is looked for that they are asked, for reading and for writing.
test_asked() {
	lb_step "security modules are asked"
	local trace=/sys/kernel/tracing length=$((66 * 1024)) said
	mountpoint -q "$trace" || mount -t tracefs tracefs "$trace"
	# shellcheck disable=SC2016 # they are arguments of the function
	echo 'p:liveblk_asked rw_verify_area rw=$arg1:s32 count=$arg4:u64' >"$trace/kprobe_events"
	echo "count == $length" >"$trace/events/kprobes/liveblk_asked/filter"
	echo 1 >"$trace/events/kprobes/liveblk_asked/enable"
	blk-copy "$disk" "$disk:8m" "$length"
	echo 0 >"$trace/events/kprobes/liveblk_asked/enable"
	said=$(grep -o 'blk-copy.* rw=[01] ' "$trace/trace" | grep -o '[01] $' | tr -d ' \n')
	echo >"$trace/kprobe_events"
	[ "$said" = 01 ] || lb_fail "asked: '$said', and not for reading and for writing"
}
if [ -e /sys/kernel/debug/kmemleak ]; then
	lb_part_skipped "the debug kernels have no such probes: whether security modules are asked"
else
	test_asked
fi

lb_step "malformed calls"
truncate -s 1M /run/fuzz.img
sum=$(cp_sum "$disk" $mib $((15 * mib)))
copy-fuzz "$calls" "$disk" /run/fuzz.img
[ "$(cp_sum "$disk" $mib $((15 * mib)))" = "$sum" ] || lb_fail "something changed where nothing was to be copied"
[ "$(blk-copy loop list --json)" = "[]" ] || lb_fail "a disk is left: $(blk-copy loop list)"
cp_null_remove security
cp_unload loop-copy null-copy
