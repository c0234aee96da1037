# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What is done at a time: each worker takes the next thing to do, until there is none. Sourced by run-tests, whose
# variables it uses.
# shellcheck disable=SC2154

# Of this turn the next test that the worker has a VM for, or the next one at all. Prints its line of the plan.
take() {
	local next
	exec 6>"$results/plan.lock"
	flock 6
	next=$(awk -v session="$session" '
		NR == 1 { turn = $1; line = $0 }
		$1 != turn { exit }
		session != "" && $4 " " $5 == session { line = $0; exit }
		END { if (line != "") print line }' "$results/plan")
	if [ -n "$next" ]; then
		grep -vxF "$next" "$results/plan" >"$results/plan.new" || true
		mv "$results/plan.new" "$results/plan"
	fi
	exec 6>&-
	echo "$next"
}

# Whether there is time for one more. If not, a test that has not been run at all says so in its place.
in_time() { # TURN KERNEL NAME
	local cost
	if out_of_time; then
		[ "$1" -gt 0 ] || report skip "$2" "$3" 0 "no time left: $LIVEBLK_BUDGET s are over"
		return 1
	fi
	[ "$1" -gt 0 ] && [ -n "${LIVEBLK_END:-}" ] || return 0
	cost=$(sed -n "s/^$3 [^ ]* \([0-9]*\) .*/\1/p" "$ran" | sort -n | tail -n 1)
	[ $((SECONDS + ${cost:-0} * 5 / 4)) -lt "$LIVEBLK_END" ]
}

worker() {
	local line turn kind name kernel shape file me=$BASHPID
	trap - EXIT
	while line=$(take) && [ -n "$line" ]; do
		read -r turn kind name kernel shape <<<"$line"
		in_time "$turn" "$kernel" "$name" || continue
		mkdir -p "$logs/$kernel"
		: >"$results/$kernel.$name.verdict"
		case $kind in
		unit) host_test "$name" "build/bin/$name" "unit tests" ;;
		runner)
			file=tests/runner/$name.sh
			host_test "$name" "$file" "$(field "$file" test "the VM runner")" ;;
		vm) vm_test "$name" "$kernel" "$shape" ;;
		esac
	done
	close_session
}
