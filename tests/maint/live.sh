# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What the VM tests of qcow2-maint on live devices share. Needs tests/vm/lib.sh and tests/lib/assert.sh.
maint=$LIVEBLK_BUILD/bin/qcow2-maint
shim=$LIVEBLK_BUILD/bin/maint-stop-shim.so
name=maint0
# shellcheck disable=SC2034 # used by the tests
device=/dev/mapper/$name
gate=/run/liveblk-gate
held=''

must() { "$@" >/run/liveblk-out 2>&1 || { local status=$?; cat /run/liveblk-out >&2; lb_fail "failed with $status: $*"; }; }

# Starts the tool; returns when it is about to make its N-th change.
hold_at() { # N WORD...
	local at=$1
	shift
	rm -f "$gate".*
	env --default-signal=INT,QUIT LD_PRELOAD="$shim" LIVEBLK_STOP_AT="$at" LIVEBLK_STOP_WAIT="$gate" \
		"$maint" "$@" >/run/liveblk-held 2>&1 &
	held=$!
	until [ -e "$gate.here" ]; do
		kill -0 "$held" 2>/dev/null || { cat /run/liveblk-held >&2; lb_fail "ended before change $at: $*"; }
		sleep 0.02
	done
}

# Sets status to what it ended with.
let_go() {
	: >"$gate.go"
	status=0
	wait "$held" || status=$?
	held=''
}

is_suspended() { [ "$(dmsetup info -c --noheadings -o suspended "$name")" = Suspended ]; }

must_be_live() {
	[ "$(dmsetup info -c --noheadings -o suspended "$name")" = Active ] || lb_fail "$name is not live: $*"
	[ "$(dmsetup info -c --noheadings -o tables_loaded "$name")" = Live ] ||
		lb_fail "$name has an inactive table: $*"
}

# The changes that a call makes, one per line.
changes_of() { # FILE WORD...
	local log=$1
	shift
	rm -f "$log"
	must env LD_PRELOAD="$shim" LIVEBLK_STOP_LOG="$log" "$maint" "$@"
}

# The number of the first change of a kind.
first_of() { grep -n -m 1 "^$2" "$1" | cut -d: -f1; } # FILE KIND
