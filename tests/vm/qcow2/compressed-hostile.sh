#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: compressed clusters that are damaged, lead elsewhere or claim too much are errors, told once, and harm nothing else
# needs: qemu-img qemu-io dmsetup blkdiscard mkfs.ext4 gzip
# cpus: 1
# timeout: 600
# mem: 2G
#
# Environment: LIVEBLK_SEED; LIVEBLK_PARTS, some of "zlib zstd places" (default all).
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/compressed.sh
. tests/lib/compressed.sh

poke_hex() { printf '%b' "${3//??/\\x&}" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; } # FILE OFFSET HEX
set_entry() { poke_hex "$bad" "$(entry_at "$1")" "$(printf %016x "$2")"; }                     # CLUSTER VALUE

# Something else in the place of the compressed cluster 1; all of it is this file.
instead() { # FILE
	local place
	place=$(($(number_at "$bad" "$(entry_at 1)") & 0x3fffffffffffff))
	dd if="$1" of="$bad" bs=1 seek="$place" conv=notrunc status=none
}

fresh_bad() { # TYPE
	local good=$tmp/$1
	# So that what is put there has room in its sectors.
	[ -e "$dir/one" ] || head -c 65536 "$source" >"$dir/one"
	if [ ! -e "$good" ]; then
		qemu-img create -q -f qcow2 -o "compression_type=$1" "$good" 2M
		qemu-io -f qcow2 -c "write -q -c -s $dir/one 0 64k" -c "write -q -c -s $dir/one 64k 64k" \
			-c "write -q -c -s $dir/one 128k 64k" "$good"
	fi
	cp "$good" "$bad"
}

# Reading cluster 1 fails, is told once, and harms nothing else.
must_be_damaged() { # LOG-PATTERN WRITTEN-OVER (yes or no)
	lb_attach "$name" "$bad"
	mark_log
	must_give "Input/output error" if="$device" of=/dev/null bs=64k skip=1 count=1 iflag=direct
	must_be_logged "$1"
	must_give "Input/output error" if="$device" of=/dev/null bs=4k skip=17 count=1 iflag=direct
	[ "$(log_since_mark | grep -cE "qcow2:.*bad.qcow2")" = 1 ] || lb_fail "it was not told once: $(log_since_mark)"
	must_give "Input/output error" if=/dev/zero of="$device" bs=4k seek=17 count=1 oflag=direct
	dd if="$device" bs=64k count=1 iflag=direct status=none | cmp - "$dir/one" || lb_fail "cluster 0 is harmed"
	dd if="$device" bs=64k skip=2 count=1 iflag=direct status=none | cmp - "$dir/one" || lb_fail "cluster 2 is harmed"
	if [ "$2" = yes ]; then
		dd if=/dev/zero of="$device" bs=64k seek=1 count=1 oflag=direct status=none
		must_hold raw "$device" 0 64k 64k
		lb_detach "$name"
		lb_check "$bad"
	else
		must_give "Input/output error" if=/dev/zero of="$device" bs=64k seek=1 count=1 oflag=direct
		must_fail "Input/output error" blkdiscard -o 65536 -l 65536 "$device"
		lb_detach "$name"
	fi
}

must_be_good() { # BYTE
	lb_attach "$name" "$bad"
	must_hold raw "$device" "$1" 64k 64k
	lb_detach "$name"
	must_hold qcow2 "$bad" "$1" 64k 64k
}

deflated() { head -c "$2" /dev/zero | tr '\0' "$1" | gzip -n | tail -c +11 | head -c -8; } # BYTE BYTES

part_zlib() {
	local bytes damaged="damaged compressed cluster at host offset 0x[0-9a-f]+"
	lb_step "zlib: no stream, too short, cut; and more than a cluster, as QEMU takes it"
	fresh_bad zlib
	printf '\xff\xff\xff\xff' >"$dir/bytes"
	instead "$dir/bytes"
	must_be_damaged "$damaged" yes
	for bytes in 65535 1; do
		fresh_bad zlib
		deflated x "$bytes" >"$dir/bytes"
		instead "$dir/bytes"
		must_be_damaged "$damaged" yes
	done
	for bytes in 65536 65537 200000; do
		fresh_bad zlib
		deflated x "$bytes" >"$dir/bytes"
		instead "$dir/bytes"
		must_be_good 0x78
	done
	fresh_bad zlib
	set_entry 1 $(($(number_at "$bad" "$(entry_at 1)") & 0x403fffffffffffff))
	must_be_damaged "$damaged" yes
}

# A frame of one block of the same byte: 28b52ffd, descriptor 0, window, block header, byte.
frame() { # WINDOW-BYTE BYTES
	local h=$(($2 << 3 | 3))
	printf '%b' "\\x28\\xb5\\x2f\\xfd\\x00\\x$1$(printf '\\x%02x' $((h & 255)) $((h >> 8 & 255)) $((h >> 16)))x"
}

part_zstd() {
	local damaged="damaged compressed cluster at host offset 0x[0-9a-f]+"
	lb_step "zstd: no frame, too short, too long, a window of 1 GiB"
	fresh_bad zstd
	printf '\xff\xff\xff\xff' >"$dir/bytes"
	instead "$dir/bytes"
	must_be_damaged "$damaged" yes
	local what
	for what in "58 65535" "58 65537" "58 131072" "a0 65536" "f8 65536"; do
		fresh_bad zstd
		# shellcheck disable=SC2086
		frame $what >"$dir/bytes"
		instead "$dir/bytes"
		must_be_damaged "$damaged" yes
	done
	lb_step "zstd: a window of 2 MiB, and several frames, as QEMU takes them"
	fresh_bad zstd
	frame 58 65536 >"$dir/bytes"
	instead "$dir/bytes"
	must_be_good 0x78
	fresh_bad zstd
	{ frame 58 30000; frame 40 5536; frame 58 30000; } >"$dir/bytes"
	instead "$dir/bytes"
	must_be_good 0x78
}

part_places() {
	local value invalid="invalid L2 entry for guest offset 0x10000"
	lb_step "descriptors that lead elsewhere"
	fresh_bad zlib
	local compressed=$((1 << 62)) copied=$((1 << 63)) l1
	l1=$(number_at "$bad" 40)
	for value in $((compressed | 1 << 40)) $((compressed | 512)) $((compressed | l1 + 100)) \
		$((compressed | l1 - 512 | 1 << 54)) $((compressed | $(stat -c %s "$bad") - 512 | 255 << 54)) \
		$((copied | $(number_at "$bad" "$(entry_at 1)"))); do
		fresh_bad zlib
		set_entry 1 "$value"
		must_be_damaged "$invalid" no
	done
	lb_step "one without a reference"
	fresh_bad zlib
	local table block
	table=$(number_at "$bad" 48)
	block=$(number_at "$bad" "$table")
	poke_hex "$bad" $((block + 2 * ($(number_at "$bad" "$(entry_at 1)") >> 16 & 0xffff))) 0000
	lb_attach "$name" "$bad"
	mark_log
	must_give "Input/output error" if=/dev/zero of="$device" bs=64k seek=1 count=1 oflag=direct
	must_be_logged "compressed data in a cluster without a reference"
	lb_detach "$name"
}

begin_packed
bad=$dir/bad.qcow2
for part in ${LIVEBLK_PARTS:-zlib zstd places}; do
	"part_$part"
done
lb_unload
