#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: qcow2-maint on a live device, killed, failed or interrupted at each step: never left suspended, or resumed
# needs: qemu-img qemu-io dmsetup jq blockdev setsid
# timeout: 1200
# mem: 3G
# cpus: 1
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/vm/maint/lib.sh
. tests/vm/maint/lib.sh

signals=12 full=false
if [ "${LIVEBLK_FULL:-0}" = 1 ]; then signals=200 full=true; fi
points=0

before_or_after() { # WHAT
	settled "$1"
	[ "$state" = "$before" ] || [ "$state" = "$after" ] || lb_fail "neither before nor after: $state, $1"
	points=$((points + 1))
}

# With its guardian, so that nobody is left to resume the device.
killed_at() { # K WORD...
	local k=$1 status=0
	shift
	fresh
	env LD_PRELOAD="$shim" LIVEBLK_STOP_AT="$k" LIVEBLK_STOP_GROUP=1 setsid "$maint" "$@" >/run/liveblk-out 2>&1 ||
		status=$?
	[ "$status" -eq 137 ] || lb_fail "ended with $status instead of being killed at $k: $*"
	if is_suspended; then
		must_fail "suspended already" "$maint" snapshot create "$name" more
	fi
	must "$maint" resume "$name"
	before_or_after "killed at $k: $*"
}

# It alone: its guardian resumes the device.
died_at() { # K WORD...
	local k=$1 status=0 tries
	shift
	fresh
	env LD_PRELOAD="$shim" LIVEBLK_STOP_AT="$k" "$maint" "$@" >/run/liveblk-out 2>&1 || status=$?
	[ "$status" -eq 99 ] || lb_fail "ended with $status instead of being stopped at $k: $*"
	for ((tries = 0; tries < 100; tries++)); do
		is_suspended || break
		sleep 0.1
	done
	before_or_after "died at $k: $*"
}

# One failure: it is refused with nothing changed, or done all the same.
failed_at() { # K WORD...
	local k=$1 status=0
	shift
	fresh
	env LD_PRELOAD="$shim" LIVEBLK_STOP_AT="$k" LIVEBLK_STOP_ONCE=1 "$maint" "$@" >/run/liveblk-failed 2>&1 || status=$?
	settled "failed at $k: $*"
	case $status in
	0) [ "$state" = "$after" ] || lb_fail "done, but $state: failed at $k, $*" ;;
	1) [ "$state" = "$before" ] || grep -q "the edit is done or not" /run/liveblk-failed ||
		lb_fail "refused, but $state: failed at $k, $*" ;;
	*) lb_fail "ended with $status: failed at $k, $*" ;;
	esac
	points=$((points + 1))
}

# A signal while it waits there: it ends by it with nothing changed, or has done its work.
interrupted_at() { # K SIGNAL WORD...
	local k=$1 signal=$2 status
	shift 2
	fresh
	hold_at "$k" "$@"
	kill -"$signal" "$held"
	sleep 0.05
	let_go
	[ "$status" -eq $((128 + $(kill -l "$signal"))) ] || lb_fail "SIG$signal at $k has no effect: $status, $*"
	before_or_after "SIG$signal at $k: $*"
}

at_each_step() { # WORD...
	local n k chosen
	local some=(INT TERM HUP QUIT USR1 PIPE ALRM)
	fresh
	before="$(snapshots "$name")$(lb_sectors "$image")"
	changes_of /run/liveblk-log "$@"
	settled "$*"
	after=$state
	n=$(wc -l </run/liveblk-log)
	[ "$n" -ge 6 ] || lb_fail "only $n changes were seen: $*"
	lb_step "$* ($n steps)"
	# The short form does one of the four at each step, another one with each seed.
	for ((k = 1; k <= n; k++)); do
		chosen=$(((k + seed) % 4))
		if $full || [ $chosen -eq 0 ]; then killed_at "$k" "$@"; fi
		if $full || [ $chosen -eq 1 ]; then failed_at "$k" "$@"; fi
		if $full || [ $chosen -eq 3 ]; then died_at "$k" "$@"; fi
		if $full || [ $chosen -eq 2 ]; then interrupted_at "$k" "${some[k % ${#some[@]}]}" "$@"; fi
	done
}

test_killed_attach() {
	local n k status
	lb_step "attach, killed at each step"
	cp "$base" "$image"
	changes_of /run/liveblk-log attach "$image" "$name"
	must "$maint" detach "$name"
	n=$(wc -l </run/liveblk-log)
	for ((k = 1; k <= n; k++)); do
		status=0
		env LD_PRELOAD="$shim" LIVEBLK_STOP_AT="$k" "$maint" attach "$image" "$name" >/run/liveblk-out 2>&1 || status=$?
		[ "$status" -eq 99 ] || lb_fail "attach ended with $status at $k"
		if ! dmsetup info "$name" >/dev/null 2>&1; then continue; fi
		if [ "$(dmsetup info -c --noheadings -o tables_loaded "$name")" = None ]; then
			must_fail "has no table" "$maint" resume "$name"
			must "$maint" detach "$name"
		else
			must "$maint" resume "$name"
			dmsetup mknodes "$name"
			settled "attach killed at $k"
		fi
	done
	lb_check "$image"
}

test_random_signals() {
	local i signal status
	lb_step "$signals signals at random moments"
	fresh
	for ((i = 0; i < signals; i++)); do
		random_pick signal INT TERM HUP
		env --default-signal=INT "$maint" snapshot create "$name" "random$i" >/run/liveblk-out 2>&1 &
		held=$!
		random_below 60
		sleep "0.0$((REPLY + 10))"
		kill -"$signal" "$held" 2>/dev/null || true
		status=0
		wait "$held" || status=$?
		case $status in
		0 | $((128 + $(kill -l "$signal")))) ;;
		*) cat /run/liveblk-out >&2; lb_fail "SIG$signal gives $status" ;;
		esac
		must_be_live "SIG$signal"
	done
	settled "signals"
}

random_start
lb_load
make_base
at_each_step snapshot create "$name" new
at_each_step resize "$name" +1M
at_each_step snapshot delete "$name" one
at_each_step snapshot rename "$name" one first
test_killed_attach
test_random_signals
lb_unload
echo "$points points, no exception"
