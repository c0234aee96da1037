#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: a kernel module copies many ranges at once by blk_copy_submit(), and is told of each
set -eu -o pipefail
# shellcheck source=tests/runner/lib.sh
. "$(dirname "$0")/lib.sh"

build_async() { # KERNEL: prints the module's path below build/
	local dir=build/copy-async/$1 headers release
	headers=$(headers_of "$1")
	release=$(release_of_headers "$headers")
	mkdir -p "$dir"
	cp tests/copy/async/* "$dir/"
	make -s -C "$headers" M="$repo/$dir" LIVEBLK="$repo" \
		KBUILD_EXTRA_SYMBOLS="$repo/build/kbuild/$release/Module.symvers" modules >"$work/make.log" 2>&1 ||
		{ cat "$work/make.log" >&2; return 1; }
	echo "$dir/copy-async.ko"
}

for kernel in "${tested_versions[@]}"; do
	echo "$kernel"
	scripts/build-modules "$kernel" >"$work/out" 2>&1 || fail "the modules could not be built"
	ko=$(build_async "$kernel") || fail "the module could not be built"
	# shellcheck disable=SC2016 # expanded in the VM
	expect 0 --kernel "$kernel" -- bash -c '
		set -eu
		. tests/vm/lib.sh
		. tests/vm/copy-lib.sh
		cp_load null-copy
		disk=$(cp_null async size=32 completion_nsec=100000)
		cp_fill "$disk" 0 262144
		insmod "$1" device="$disk"
		for ((i = 1; i <= 64; i++)); do cp_same "$disk" 0 "$disk" $((i * 262144)) 262144; done
		rmmod copy-async
		cp_null_remove async
		cp_unload null-copy' - "$ko"
done
