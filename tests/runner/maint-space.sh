#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: an image does not grow from edit to edit: free clusters are used first, what is free goes back to the host
set -eu -o pipefail
# shellcheck source=tests/runner/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/maint/lib.sh
. "$repo/tests/maint/lib.sh"

image=$work/image.qcow2
what=''

kib_long() { echo $(($(stat -c %s "$1") / 1024)); }
kib_used() { sync "$1"; du -k "$1" | cut -f1; }

# Pieces all over the disk, so that all of its L2 tables are there.
make_image() { # OPTIONS SIZE-MIB
	local at commands=()
	must qemu-img create -q -f qcow2 -o "$1" "$image" "$2M"
	for ((at = 0; at < $2; at += 16)); do commands+=(-c "write -q -P $((at / 16 % 250 + 1)) ${at}M 300k"); done
	must qemu-io -f qcow2 "${commands[@]}" "$image"
	sync "$image"
}

# As long and as large as it was, but for what qemu-img adds too.
grown() { # KIB-LONGER KIB-LARGER
	local long used
	long=$(($(kib_long "$image") - long_before)) used=$(($(kib_used "$image") - used_before))
	echo "$what: $long KiB longer, $used KiB larger"
	[ "$long" -le "$1" ] || fail "$what: $long KiB longer, $1 were allowed"
	[ "$used" -le "$2" ] || fail "$what: $used KiB larger, $2 were allowed"
}

remember() { long_before=$(kib_long "$image") used_before=$(kib_used "$image"); }

# What one edit writes has to lie somewhere while the old one is still the image: tables that are replaced, the L1
# table of the disk and of the snapshot, refcounts, their table, the snapshot table.
test_cycles() { # OPTIONS SIZE-MIB CLUSTER-KIB COUNT CLUSTERS-OF-AN-EDIT
	local n before
	make_image "$1" "$2"
	before=$(fingerprint "$image")
	remember
	for ((n = 0; n < $4; n++)); do
		must "$maint" snapshot create "$image" s
		must "$maint" snapshot delete "$image" s
	done
	what="$1, $4 times create and delete"
	must_be_sound "$image"
	[ "$(fingerprint "$image")" = "$before" ] || fail "$what: the disk has changed"
	grown $(($3 * $5)) $(($3 * 1))
}

# With snapshots that are not those of the disk any more, whose data an edit does not look at.
test_other_edits() {
	local n before
	make_image cluster_size=64k 1024
	must "$maint" snapshot create "$image" one
	must qemu-io -f qcow2 -c "write -P 77 0 100M" "$image"
	must "$maint" snapshot create "$image" two
	must qemu-io -f qcow2 -c "write -P 78 512M 50M" "$image"
	before=$(fingerprint "$image")
	remember
	for ((n = 0; n < 30; n++)); do
		must "$maint" snapshot rename "$image" one other
		must "$maint" resize "$image" +1G
		must "$maint" snapshot create "$image" three
		must "$maint" snapshot rename "$image" other one
		must "$maint" snapshot delete "$image" three
		must "$maint" resize --shrink "$image" -1G
	done
	what="30 times rename, create, delete, resize"
	must_be_sound "$image"
	[ "$(fingerprint "$image")" = "$before" ] || fail "$what: the disk has changed"
	grown $((12 * 64)) 64
}

# The clusters become free, and the host keeps what is in them.
discard() { # COMMAND...
	must qemu-io --image-opts "driver=qcow2,discard=unmap,pass-discard-request=off,file.driver=file,file.filename=$image" "$@"
}

# Clusters that are free and have data on the host, and more of them at the end.
test_free_with_data() {
	local before end
	make_image cluster_size=64k 256
	discard -c "write -P 9 100M 4M" -c "write -P 8 200M 4M" -c "discard 100M 4M"
	what="free clusters that have data"
	before=$(fingerprint "$image")
	remember
	must "$maint" snapshot create "$image" one
	must_be_sound "$image"
	grown 0 64
	must "$maint" snapshot delete "$image" one
	grown 0 0
	# The last 4 MiB.
	discard -c "discard 200M 4M"
	before=$(fingerprint "$image")
	end=$(qemu-img check --output=json "$image" | jq '."image-end-offset"')
	what="check --repair leaks with nothing leaked"
	cp "$image" "$work/before"
	must "$maint" check "$image"
	cmp "$image" "$work/before" || fail "$what: a check has changed the image"
	must "$maint" check --repair leaks --json "$image"
	[ "$(jq '."bytes-given-back"' "$work/out")" -ge $((6 << 20)) ] || fail "$what: does not say so"
	must_be_sound "$image"
	grown -4096 -7000
	[ "$(stat -c %s "$image")" -le "$end" ] || fail "$what: the free tail is still there"
	[ "$(fingerprint "$image")" = "$before" ] || fail "$what: the disk has changed"
}

# An edit that is killed when its header is written, but perhaps not durable: the power fails while the next one is
# under way, and the header is the old one again. What that needs must not have been overwritten.
test_header_not_durable() {
	local log=$work/log barrier n
	make_image cluster_size=4k 16
	must "$maint" snapshot create "$image" one
	must qemu-io -f qcow2 -c "write -P 99 0 16M" "$image"
	must "$maint" snapshot create "$image" two
	cp --sparse=always "$image" "$work/base"
	what="a header that is not durable"
	before=$(fingerprint "$work/base")
	must env LD_PRELOAD="$shim" LIVEBLK_STOP_LOG="$log" "$maint" snapshot delete "$image" one
	barrier=$(grep -n fdatasync "$log" | tail -n 1 | cut -d: -f1)
	for ((n = 1; ; n++)); do
		cp --sparse=always "$work/base" "$image"
		run env LD_PRELOAD="$shim" LIVEBLK_STOP_AT="$barrier" "$maint" snapshot delete "$image" one || true
		cmp -s -n 512 "$image" "$work/base" && fail "$what: it was not written at all"
		rm -f "$log"
		run env LD_PRELOAD="$shim" LIVEBLK_STOP_AT="$n" LIVEBLK_STOP_LOG="$log" \
			"$maint" snapshot create "$image" three || true
		dd if="$work/base" of="$image" bs=512 count=1 conv=notrunc status=none
		[ "$(fingerprint "$image")" = "$before" ] || fail "$what: stopped at $n, its image is not what it was"
		must_be_sound "$image"
		if grep -q fdatasync "$log"; then break; fi
	done
	echo "$what: $n points"
}

test_cycles cluster_size=64k 1024 64 100 0
test_cycles cluster_size=2M 1024 2048 100 0
test_cycles cluster_size=4k,refcount_bits=2 64 4 50 0
test_other_edits
test_free_with_data
test_header_not_durable
