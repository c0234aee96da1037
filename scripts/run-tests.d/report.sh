# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Verdicts, costs and totals. Sourced by run-tests, whose variables it uses.
# shellcheck disable=SC2154

# The end of a log, where the reason is, short enough for a summary.
excerpt() { # LOG
	[ -e "$logs/$1" ] || return 0
	tail -n 25 "$logs/$1" | cut -c 1-160 | sed 's/^/     | /'
	echo "     | (all of it: build/logs/$1)"
}

# Why it failed: what the test says itself, or else the last line of its log.
reason() { # LOG
	local line=''
	if [ -e "$logs/$1" ]; then
		line=$(sed -n 's/^FAIL: //p' "$logs/$1" | tail -n 1)
		[ -n "$line" ] || line=$(sed -E '/^[[:space:]]*$/d; /^exit status/d; /^to repeat:/d' "$logs/$1" | tail -n 1)
	fi
	echo "${line:-it has said nothing}" | cut -c 1-140
}

# One line for each test, and one word into the tally.
report() { # ok|FAIL|skip KERNEL NAME SECONDS TEXT
	{
		printf '%-4s %-10s %s (%s s) - %s\n' "$1" "$2" "$3" "$4" "$5"
		[ "$1" != FAIL ] || excerpt "$2/${3%%,*}.log"
	} >"$results/said.$me"
	cat "$results/said.$me"
	rm "$results/said.$me"
	[ "$1" != FAIL ] || echo "# failed: $3 on $2: $(reason "$2/${3%%,*}.log")" >>"$results/failed.$me"
	echo "$1" >"$results/$2.$3.verdict"
}

# What a test that passed could not show of its subject (lb_part_skipped): a line and a word each, as for a test.
report_parts() { # KERNEL NAME
	local reason n=0
	while read -r reason; do
		n=$((n + 1))
		printf 'skip %-10s %s, a part of it - %s\n' "$1" "$2" "$reason"
		echo skip >"$results/$1.$2.part$n.verdict"
	done < <(sed -n 's/^part skipped: *//p' "$logs/$1/$2.log")
}

# A test that says it was skipped has to say why.
judge() { # STATUS KERNEL NAME SECONDS CPU-SECONDS DESCRIPTION
	local log=$logs/$2/$3.log last
	echo "$3 $2 $4 $5" >>"$ran"
	case $1 in
	0)
		report ok "$2" "$3" "$4" "$6"
		report_parts "$2" "$3"
		[ -n "${LIVEBLK_KEEP_LOGS:-}" ] || rm -rf "$log" "$logs/$2/$3.kernel" "$logs/$2/$3.results" ;;
	77)
		last=$(grep -av '^[[:space:]]*$' "$log" | tail -n 1) || last=''
		if [ -n "$last" ]; then
			report skip "$2" "$3" "$4" "$last"
		else
			echo "exit status 77 without a reason" >>"$log"
			report FAIL "$2" "$3" "$4" "$6"
		fi ;;
	*)
		echo "exit status $1" >>"$log"
		report FAIL "$2" "$3" "$4" "$6" ;;
	esac
}

costs() {
	local boots=0 seconds=0 n
	while read -r n; do
		boots=$((boots + 1))
		seconds=$((seconds + n))
	done < <(cat "$results"/boots.* 2>/dev/null)
	[ "$boots" -eq 0 ] || echo "# $boots boots of shared VMs took $seconds s"
	[ "$(wc -l <"$ran")" -gt 10 ] || return 0
	echo "# the ten dearest: seconds by the clock, and of the processors"
	sort -s -k 3,3nr "$ran" | sed 10q | while read -r name kernel clock cpu; do
		printf '#   %5s %5s  %s on %s\n' "$clock" "$cpu" "$name" "$kernel"
	done
}

# How many VM tests have been on all kernels that they are for, with what --once has run.
on_how_many() {
	local file test those all=0 one=0 done_on kernel
	[ "$mode" = all ] || [ "$mode" = rest ] || return 0
	[ ${#kernels[@]} -gt 1 ] && [ ${#tests[@]} -eq 0 ] || return 0
	for file in $(vm_test_files); do
		test=${file##*/} test=${test%.sh}
		read -r -a those < <(kernels_of "$file")
		[ ${#those[@]} -gt 1 ] || continue
		done_on=0
		for kernel in "${those[@]}"; do ! grep -q "^$test $kernel " "$ran" || done_on=$((done_on + 1)); done
		if [ "$done_on" -eq ${#those[@]} ]; then
			all=$((all + 1))
		elif [ "$done_on" -gt 0 ]; then
			one=$((one + 1))
		fi
	done
	echo "# $all tests on both kernels, $one on one"
}

out_of_time() { [ -n "${LIVEBLK_BUDGET:-}" ] && [ "$SECONDS" -ge "$LIVEBLK_BUDGET" ]; }

totals() {
	local passed failed skipped all
	all=$(find "$results" -name '*.verdict' | wc -l)
	passed=$(grep -lrx ok --include='*.verdict' "$results" | wc -l) || true
	skipped=$(grep -lrx skip --include='*.verdict' "$results" | wc -l) || true
	# Whatever did not report is a failure too.
	failed=$((all - passed - skipped))
	# Once more at the end, where they are found if the middle of a long output is lost.
	cat "$results"/failed.* 2>/dev/null || true
	find "$results" -name '*.verdict' -empty -printf '# failed: %f: it has not ended\n'
	echo "$passed passed, $failed failed, $skipped skipped"
	# A run that had no time for anything has shown nothing, but nothing wrong either.
	[ "$failed" -eq 0 ] && { [ "$passed" -gt 0 ] || [ "$mode" = rest ] || out_of_time; }
}
