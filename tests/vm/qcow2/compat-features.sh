#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: feature bits and header extensions are kept, cleared, set or refused as the format says
# needs: qemu-img qemu-io dmsetup mkfs.xfs od cmp
# timeout: 300
# cpus: 1
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh

name=compat0
device=/dev/mapper/$name
hostile=$LIVEBLK_BUILD/bin/qcow2-hostile
# Offsets of the header's fields; expect_bits takes their names.
size_field=24 incompatible=72 autoclear=88
# shellcheck disable=SC2034
compatible=80

poke() { # OFFSET HEX-BYTE...
	local offset=$1
	shift
	printf '%b' "$(printf '\\x%s' "$@")" | dd of="$image" bs=8 seek="$offset" oflag=seek_bytes conv=notrunc status=none
}

# Below the page cache, so that it is what a crash would find.
peek() { # OFFSET LENGTH
	dd if="$image" bs=4096 count=1 iflag=direct status=none | od -An -v -tx1 -j "$1" -N "$2" | tr -d ' \n'
}

bits() { peek "$1" 8; }

expect_bits() { # FIELD VALUE WHEN
	local is
	is=$(bits "${!1}")
	[ "$is" = "$2" ] || lb_fail "$1 bits are $is and not $2 $3"
}

write_something() {
	qemu-io -f raw -t none -c 'write -P 0x42 8k 4k' -c 'write -P 0x43 200k 8k' -c 'discard 256k 64k' \
		-c 'write -z 64k 4k' -c flush "$device" >/dev/null
}

# All of the header's cluster but the refcount table's place and the autoclear bits.
same_header() { # FILE FILE
	cmp -n 48 "$1" "$2" && cmp -i 60 -n 28 "$1" "$2" && cmp -i 96 -n 4000 "$1" "$2"
}

extensions_survive() {
	local case
	for case in v3-extension-hundreds v2-extension-hundreds v3-extension-unknown-odd-length \
		extension-two-feature-tables compatible-all v3-header-length-256; do
		lb_step "kept byte for byte: $case"
		"$hostile" make "$case" "$image"
		head -c 4096 "$image" >/run/liveblk-before
		lb_attach "$name" "$image"
		write_something
		lb_detach "$name"
		same_header /run/liveblk-before "$image" || lb_fail "the header of $case has changed"
		lb_check "$image"
	done
}

autoclear_bits() {
	lb_step "autoclear bits"
	"$hostile" make valid-v3-cluster-65536-refcount-16 "$image"
	local set=8000000000000001
	poke $autoclear 80 00 00 00 00 00 00 01
	lb_attach "$name" "$image" read_only
	dd if="$device" of=/dev/null bs=64k iflag=direct status=none
	lb_detach "$name"
	expect_bits autoclear $set "after a read-only attachment"
	lb_attach "$name" "$image"
	qemu-io -f raw -t none -c 'write -P 0x42 64k 4k' "$device" >/dev/null
	expect_bits autoclear 0000000000000000 "after a write in place"
	write_something
	lb_detach "$name"
	expect_bits autoclear 0000000000000000 "after a writer"
	lb_check "$image"
}

version_2_stays() {
	lb_step "version 2"
	lb_image "$image" 16M compat=0.10
	lb_attach "$name" "$image"
	write_something
	qemu-io -f raw -t none -c 'write -P 0x44 1M 2M' -c 'write -z 1M 1M' -c 'discard 2M 1M' -c flush "$device" >/dev/null
	qemu-io -f raw -t none -c 'read -P 0 1M 2M' "$device" | grep -q 'read 2097152' ||
		lb_fail "discarded and zeroed ranges of a version 2 image do not read as zeros"
	qemu-img convert -f raw -O raw "$device" /run/liveblk-model
	lb_detach "$name"
	[ "$(peek 4 4)" = 00000002 ] || lb_fail "the version has changed"
	# QEMU takes a zero flag in version 2 for corruption.
	lb_check "$image"
	qemu-img compare -f raw -F qcow2 /run/liveblk-model "$image" >/dev/null || lb_fail "the image differs"
}

lazy_refcounts() {
	lb_step "lazy refcounts"
	lb_image "$image" 16M lazy_refcounts=on
	lb_attach "$name" "$image"
	dd if="$device" of=/dev/null bs=64k count=16 iflag=direct status=none
	expect_bits incompatible 0000000000000000 "before the first change"
	write_something
	expect_bits incompatible 0000000000000001 "after an allocation"
	dmsetup suspend "$name"
	expect_bits incompatible 0000000000000000 "while suspended"
	lb_check "$image"
	dmsetup resume "$name"
	qemu-io -f raw -t none -c 'write -P 0x45 4M 1M' -c flush "$device" >/dev/null
	expect_bits incompatible 0000000000000001 "after an allocation that follows a resume"
	cp "$image" "$image.crashed"
	lb_detach "$name"
	expect_bits incompatible 0000000000000000 "after detaching"
	expect_bits compatible 0000000000000001 "after detaching"
	lb_check "$image"
	lb_step "a copy of it while it was dirty is refused until it is repaired"
	expect_refusal "$image.crashed" 'qemu-img check -r all'
	lb_attach "$name" "$image.crashed" read_only
	lb_detach "$name"
	qemu-img check -q -r all "$image.crashed" || lb_fail "the copy cannot be repaired"
	lb_attach "$name" "$image.crashed"
	qemu-io -f raw -t none -c 'read -P 0x45 4M 1M' "$device" | grep -q 'read 1048576' ||
		lb_fail "flushed data is not in the copy"
	lb_detach "$name"
	rm "$image.crashed"
	lb_step "without lazy refcounts the image never is dirty"
	lb_image "$image" 16M lazy_refcounts=off
	lb_attach "$name" "$image"
	write_something
	expect_bits incompatible 0000000000000000 "without lazy refcounts"
	lb_detach "$name"
}

# Not by lb_attach, since QEMU does not tell the size of images that it refuses itself.
expect_refusal() { # IMAGE TEXT
	local size
	size=$((16#$(od -An -v -tx1 -j $size_field -N 8 "$1" | tr -d ' \n')))
	dmesg -C
	if dmsetup create "$name" --table "0 $((size / 512)) qcow2 $1" 2>/dev/null; then
		lb_detach "$name"
		lb_fail "$1 was attached, not refused with: $2"
	fi
	dmesg | grep -F qcow2 | grep -qiF -- "$2" || {
		dmesg | tail -n 5
		lb_fail "the refusal does not say: $2"
	}
}

incompatible_features() {
	lb_step "incompatible features are refused by name"
	lb_image "$image" 16M
	local -a cases=("01|qemu-img check -r all" "02|corrupt" "04|external data file" "08|compression type"
		"20|5" "80|7")
	local case
	for case in "${cases[@]}"; do
		poke $((incompatible + 7)) "${case%%|*}"
		expect_refusal "$image" "${case#*|}"
	done
	poke $((incompatible + 7)) 00
	lb_attach "$name" "$image"
	lb_detach "$name"
	"$hostile" make incompatible-named "$image"
	expect_refusal "$image" "time travel"
}

lb_load
image=$(lb_scratch 400 xfs)/image.qcow2
extensions_survive
autoclear_bits
version_2_stays
lazy_refcounts
incompatible_features
lb_unload
