#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: blk-copy from program to driver and back: offloaded, emulated, refused; page caches; attributes
# needs: jq dmsetup
# timeout: 200
# debug: yes
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh
# shellcheck source=tests/vm/copy-lib.sh
. tests/vm/copy-lib.sh

test_offload() {
	lb_step "a copy by the driver"
	cp_fill "$disk" 0 $((4 * mib))
	blk-copy "$disk" "$disk:16m" 4m
	cp_same "$disk" 0 "$disk" $((16 * mib)) $((4 * mib))
	[ "$(cp_attr "$disk" offloaded)" = $((4 * mib)) ] || lb_fail "offloaded is $(cp_attr "$disk" offloaded)"
	[ "$(cp_attr "$disk" emulated)" = 0 ] || lb_fail "emulated is $(cp_attr "$disk" emulated)"
	# A hole stays a hole.
	before=$(cat /sys/kernel/config/null-copy/smoke/memory)
	blk-copy "$disk:32m" "$disk:16m" 4m
	after=$(cat /sys/kernel/config/null-copy/smoke/memory)
	((before - after == 4 * mib)) || lb_fail "a copied hole took $((after - before)) bytes"
	# One sector, between others.
	blk-copy "$disk:512" "$disk:1537k" 512
	cp_same "$disk" 512 "$disk" $((1537 * 1024)) 512
}

test_page_cache() {
	lb_step "page caches of both sides"
	dd if=/dev/urandom of="$disk" bs=64k count=16 conv=notrunc status=none
	dd if="$disk" of=/dev/null bs=64k skip=$((8 * mib))B count=16 status=none
	blk-copy "$disk" "$disk:8m" 1m
	[ "$(cp_sum "$disk" 0 $mib "")" = "$(cp_sum "$disk" $((8 * mib)) $mib "")" ] || lb_fail "through the cache it is another"
	cp_same "$disk" 0 "$disk" $((8 * mib)) $mib
}

test_emulation() {
	lb_step "reading and writing only when asked for"
	echo 0 >"/sys/block/${disk#/dev/}/copy/max_bytes"
	must_fail "no driver copies" blk-copy "$disk" "$disk:16m" 4m
	json=$(blk-copy --emulate=auto --json "$disk" "$disk:16m" 4m)
	[ "$(jq -c '[.bytes, .offloaded, .complete]' <<<"$json")" = "[4194304,0,true]" ] || lb_fail "$json"
	cp_same "$disk" 0 "$disk" $((16 * mib)) $((4 * mib))
	cat "/sys/block/${disk#/dev/}/copy/max_hw_bytes" >"/sys/block/${disk#/dev/}/copy/max_bytes"
	blk-copy --emulate=always "$disk" "$disk:24m" 4m
	[ "$(cp_attr "$disk" emulated)" = $((8 * mib)) ] || lb_fail "emulated is $(cp_attr "$disk" emulated)"
	# To and from a disk whose driver knows nothing of copies.
	ram=$(lb_ramdisk 8)
	must_fail "no driver copies" blk-copy "$disk" "$ram" 8m
	blk-copy --emulate=auto "$disk" "$ram" 8m
	cp_same "$disk" 0 "$ram" 0 $((8 * mib))
	blk-copy --emulate=auto "$ram" "$disk:40m"
	cp_same "$disk" $((40 * mib)) "$ram" 0 $((8 * mib))
}

test_refusals() {
	lb_step "what is refused"
	must_fail "overlap" blk-copy "$disk" "$disk:1m" 2m
	must_fail "multiples" blk-copy "$disk:1" "$disk:1m" 512
	must_fail "ends at" blk-copy "$disk" "$disk:63m" 2m
	must_fail "nothing to copy" blk-copy "$disk:64m" "$disk"
	must_fail "no block device" blk-copy /etc/passwd "$disk"
	must_fail "SRC and DST" blk-copy "$disk"
	dmsetup create busy --table "0 2048 linear $disk 0"
	must_fail "in use" blk-copy "$disk:8m" "$disk:16m" 1m
	dmsetup remove busy
	blockdev --setro "$disk"
	must_fail "read-only|not permitted|Permission" blk-copy "$disk:8m" "$disk:16m" 1m
	blockdev --setrw "$disk"
}

cp_load null-copy
modprobe dm-mod
disk=$(cp_null smoke size=64)
test_offload
test_page_cache
test_emulation
test_refusals
lb_step "removal"
must_fail "in use" rmmod blk-copy
cp_null_remove smoke
[ ! -e "$disk" ] || lb_fail "$disk is still there"
dmsetup remove lb-ram0
cp_unload null-copy
