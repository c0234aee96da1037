# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Persistent bitmaps as QEMU reads them. Needs tests/vm/lib.sh.

# What QEMU reads in a bitmap, as lines "OFFSET BYTES". The server ends with its only client.
read_bitmap() { # IMAGE BITMAP
	local socket=/run/nbd.$2
	qemu-nbd --fork -r -k "$socket" -B "$2" -f qcow2 "$1" >&2 || lb_fail "QEMU cannot read the bitmap $2"
	qemu-img map --output=json --image-opts \
		"driver=nbd,server.type=unix,server.path=$socket,x-dirty-bitmap=qemu:dirty-bitmap:$2" |
		jq -r '.[] | select(.data | not) | "\(.start) \(.length)"'
}
