#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: images that qcow2-maint makes anew are what qemu-img makes: sizes, clusters and names of all kinds, written on by it
set -eu -o pipefail
# shellcheck source=tests/runner/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/maint/lib.sh
. "$repo/tests/maint/lib.sh"

new=$repo/build/bin/new-image
image=$work/image.qcow2

# What qemu-img says of an image, but for its name, its date, and what the file takes on the disk.
facts() { # FILE
	qemu-img info -f qcow2 --output=json "$1" >"$work/out" 2>"$work/err" || fail "qemu-img info $1"
	jq -cS 'del(.filename, ."actual-size", .children)' "$work/out"
}

# The same by both.
both() { # SIZE CLUSTER-BITS [BACKING FORMAT]
	local more=()
	what="$*"
	[ $# -lt 3 ] || more=(-u -b "$3" -F "$4")
	rm -f "$image" "$image.qemu"
	must "$new" "$image" "$@"
	must_be_sound "$image"
	must qemu-img create -q -f qcow2 -o "cluster_size=$((1 << $2))" ${more[@]+"${more[@]}"} "$image.qemu" "$1"
	[ "$(facts "$image")" = "$(facts "$image.qemu")" ] || fail "not as by qemu-img: $what: $(facts "$image")"
}

for bits in {9..21}; do both $((65536 + 512)) "$bits"; done
both 512 16
both 64T 16
both $(((64 << 40) + 512)) 21
# The largest L1 table; qemu-img takes minutes to make that.
rm -f "$image"
must "$new" "$image" 128G 9
must_be_sound "$image"

must qemu-img create -q -f qcow2 "$work/base" 64M
must qemu-io -f qcow2 -c "write -P 1 0 64M" "$work/base"
for name in base "$work/base" ./base "file:$work/base"; do
	both 64M 16 "$name" qcow2
done
both 64M 9 base qcow2
must "$maint" info --backing-chain "$image"
grep -q "^image: *$work/base\$" "$work/out" || fail "the backing file is not found"
must qemu-io -f qcow2 -c "read -P 1 0 64M" -c "write -P 2 1M 3M" -c "write -z 32M 1M" "$image"
! grep -q 'verification failed' "$work/out" || fail "not what is below"
must_be_sound "$image"
must "$maint" check "$image"
must "$maint" bitmap add "$image" one
must_be_sound "$image"

echo "a file that is there is left alone, and one that cannot be made goes away"
cp "$image" "$work/kept"
if run "$new" "$image" 1M 16; then fail "written over"; fi
grep -q "there is something of that name already" "$work/err" || fail "not said why"
cmp -s "$image" "$work/kept" || fail "the file has changed"
if run "$new" "$work/none" 64T 9; then fail "an image that cannot be"; fi
[ ! -e "$work/none" ] || fail "left behind"
echo "all are as by qemu-img"
