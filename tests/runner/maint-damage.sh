#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: qcow2-maint on images whose refcounts do not tell what is in use: nothing that the disk needs is overwritten
set -eu -o pipefail
# shellcheck source=tests/runner/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/maint/lib.sh
. "$repo/tests/maint/lib.sh"

image=$work/image.qcow2

big_endian() { od -An -tx1 -j "$2" -N "$3" "$1" | tr -d ' \n'; } # FILE OFFSET BYTES

# Sets the refcount of a cluster in the first refcount block, of 16-bit refcounts, to 0.
forget() { # OFFSET-OF-CLUSTER
	local block
	block=$(big_endian "$image" $((16#$(big_endian "$image" 48 8))) 8)
	printf '\0\0' | dd of="$image" bs=1 seek=$((16#$block + 2 * ($1 / 65536))) conv=notrunc status=none
}

holds() { must qemu-io -r -f qcow2 "$@" "$image"; ! grep -q 'verification failed' "$work/out" || fail "wrong data: $what"; }

what="leaks and lost refcounts after a crash"
must qemu-img create -q -f qcow2 -o lazy_refcounts=on "$image" 64M
must qemu-io -f qcow2 -c "write -P 17 0 1M" "$image"
run qemu-io -f qcow2 -d unmap -c "discard 0 128k" -c "write -P 34 8M 2M" -c flush -c abort "$image" || true
cp "$image" "$work/before"
run "$maint" check --repair leaks "$image" && fail "$what: --repair leaks has not refused"
cmp -s "$image" "$work/before" || fail "$what: refused, but something has changed"
must "$maint" check --repair all "$image"
must_be_sound "$image"
holds -c "read -P 34 8M 2M" -c "read -P 17 128k 896k"

what="an L1 table that nothing counts"
must qemu-img create -q -f qcow2 "$image" 64M
must qemu-io -f qcow2 -c "write -P 17 0 1M" "$image"
forget $((16#$(big_endian "$image" 40 8)))
cp "$image" "$work/before"
run "$maint" snapshot create "$image" one || true
holds -c "read -P 17 0 1M"

what="an L1 table that nothing counts, stopped before the header"
for ((n = 1; n < 12; n++)); do
	cp "$work/before" "$image"
	run env LD_PRELOAD="$shim" LIVEBLK_STOP_AT="$n" "$maint" snapshot create "$image" one || true
	holds -c "read -P 17 0 1M"
done

what="growing after a cut through a compressed cluster"
must qemu-img create -q -f qcow2 "$image" 1M
must qemu-io -f qcow2 -c "write -c -P 17 960k 64k" "$image"
must "$maint" resize --shrink "$image" 990k
run "$maint" resize "$image" 1M && fail "$what: not refused, and what it shows is not zeros"
must_be_sound "$image"
echo "all of it held"
