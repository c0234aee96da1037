# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What the tests of the VM runner share; they run on the host and start VMs.
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=scripts/common.sh
. "$repo/scripts/common.sh"
cd "$repo" || exit 1
work=$(mktemp -d "${TMPDIR:-/tmp}/liveblk-runner.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
	echo "FAIL: $*"
	[ ! -e "$work/out" ] || sed 's/^/  out: /' "$work/out"
	[ ! -e "$work/err" ] || tail -n 30 "$work/err" | sed 's/^/  err: /'
	exit 1
}

# expect STATUS OPTION... -- COMMAND...: runs it in a VM, output in $work/out and err.
expect() {
	local wanted=$1 status=0
	shift
	scripts/vm run --smp 1 "$@" >"$work/out" 2>"$work/err" || status=$?
	[ "$status" -eq "$wanted" ] || fail "vm run $* returned $status, not $wanted"
}

said() { grep -q -- "$1" "$work/err" || fail "the runner did not say: $1"; }

build_complain() { # KERNEL: prints the module's path below build/
	local dir=build/complain/$1
	mkdir -p "$dir"
	cp tests/runner/complain/{complain.c,Kbuild} "$dir/"
	make -s -C "$(headers_of "$1")" M="$repo/$dir" modules >"$work/make.log" 2>&1 || { cat "$work/make.log" >&2; return 1; }
	echo "$dir/complain.ko"
}
