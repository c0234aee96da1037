# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# One VM test: in a VM of its own, or in one that the worker has for several, the session. Sourced by run-tests, whose
# variables it uses.
# shellcheck disable=SC2154
session='' # "KERNEL SHAPE" of the VM that is up
session_pid='' last_test=''

time_limit() { # FILE KERNEL
	local limit
	limit=$(($(field "$1" timeout 300) * slower))
	case $2 in debug-*) limit=$((limit * 6)) ;; esac
	echo "$limit"
}

# What the VM itself has to be like.
vm_arguments() { # FILE KERNEL MEMORY
	local disk append
	args=(--kernel "$2" --mem "$3" --smp "$(cpus "$1" "$2")")
	[ "$(field "$1" icount no)" != yes ] || args+=(--icount)
	[ "$(field "$1" one-thread no)" != yes ] || args+=(--one-thread)
	for disk in $(field "$1" disks ''); do args+=(--disk "$disk"); done
	append=$(field "$1" append '')
	[ -z "$append" ] || args+=(--append "$append")
}

missing_programs() { # FILE
	local program
	for program in $(field "$1" needs ''); do
		PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin command -v "$program" >/dev/null || echo "$program"
	done
}

# A command that does not outlive the shell it is waited for in. Sets status and cpu, what it has used of the
# processors in seconds.
attended() { # COMMAND...
	local pid TIMEFORMAT='%0U %0S' words
	status=0
	{
		time {
			"$@" 2>&3 3>&- &
			pid=$!
			trap 'kill -TERM "$pid" 2>/dev/null || true; wait "$pid" || true; exit 143' TERM
			wait "$pid" || status=$?
			trap - TERM
		}
	} 3>&2 2>"$results/time.$me"
	read -r -a words < <(tail -n 1 "$results/time.$me")
	rm -f "$results/time.$me"
	cpu=$((words[0] + words[1]))
}

own_vm() { # FILE NAME KERNEL
	local args
	# Memory for one VM at a time and worker.
	close_session
	vm_arguments "$1" "$3" "$(field "$1" mem 2G)"
	args+=(--timeout "$(time_limit "$1" "$3")" --log "$logs/$3/$2.kernel" --results "$logs/$3/$2.results")
	# In one stream, so that the log is in order.
	# shellcheck disable=SC2016 # expanded in the VM
	attended scripts/vm run "${args[@]}" -- bash -c 'exec "$@" 2>&1' - "$1" >>"$logs/$3/$2.log" 2>&1
}

open_session() { # FILE KERNEL SHAPE
	local args
	vm_arguments "$1" "$2" "${3%%,*}"
	rm -f "$results/jobs.$me" "$results/answers.$me"
	mkfifo "$results/jobs.$me" "$results/answers.$me"
	scripts/vm serve "${args[@]}" <"$results/jobs.$me" >"$results/answers.$me" 2>"$results/serve.$me" &
	session_pid=$!
	exec {jobs}>"$results/jobs.$me" {answers}<"$results/answers.$me"
	session="$2 $3"
	trap 'kill -TERM "$session_pid" 2>/dev/null || true; wait "$session_pid" || true; exit 143' TERM
}

# The kernel has complained when the last test of the session had its verdict already: a failure of that test.
late_complaint() {
	report FAIL "${session%% *}" "$last_test, after its end" 0 "what it has left behind made the kernel complain"
}

close_session() {
	local answer
	[ -n "$session" ] || return 0
	exec {jobs}>&-
	while read -r -u "$answers" answer; do
		[ "$answer" != late ] || late_complaint
	done
	exec {answers}<&-
	wait "$session_pid" || true
	trap - TERM
	session='' last_test=''
}

# One attempt. Sets status, cpu and booted, the seconds that the boot took; false if the test was not begun, for a
# reason that is another's.
in_session() { # FILE NAME KERNEL SHAPE
	local answer
	[ "$session" = "$3 $4" ] || close_session
	[ -n "$session" ] || open_session "$1" "$3" "$4"
	# It may have ended: the answer says so then, and not a signal.
	(
		trap '' PIPE
		# shellcheck disable=SC2016 # expanded in the VM
		printf '%q ' "$(time_limit "$1" "$3")" "$logs/$3/$2.log" "$logs/$3/$2.kernel" "$logs/$3/$2.results" \
			bash -c 'exec "$@" 2>&1' - "$1" >&"$jobs"
		echo >&"$jobs"
	) 2>/dev/null || true
	read -r -u "$answers" -a answer || answer=(none)
	case ${answer[0]} in
	done)
		last_test=$2
		status=${answer[1]} cpu=${answer[3]} booted=${answer[4]}
		[ "${answer[2]}" = up ] || close_session ;;
	late)
		late_complaint
		close_session
		return 1 ;;
	*)
		status=125 cpu=0 booted=0
		cat "$results/serve.$me" >>"$logs/$3/$2.log"
		close_session ;;
	esac
}

shared_vm() { # FILE NAME KERNEL SHAPE
	in_session "$@" || in_session "$@"
	[ "$booted" -eq 0 ] || echo "$booted" >>"$results/boots.$me"
}

vm_test() { # NAME KERNEL SHAPE
	local file log=$logs/$2/$1.log start=$SECONDS description missing after status=0 cpu=0 booted=0 args
	file=$(vm_test_file "$1")
	description=$(field "$file" test '')
	missing=$(missing_programs "$file" | tr '\n' ' ')
	: >"$log"
	rm -rf "$logs/$2/$1.results"
	if [ -z "$description" ]; then
		echo "$file has no line '# test: description'" >"$log"
		status=1
	elif [ -n "$missing" ]; then
		echo "missing programs: $missing(scripts/install-deps installs what the tests need)" >"$log"
		status=1
	else
		if [ "$3" = own ]; then own_vm "$file" "$1" "$2"; else shared_vm "$file" "$1" "$2" "$3"; fi
		after=$(field "$file" after '')
		if [ "$status" -eq 0 ] && [ -n "$after" ]; then
			"$after" "$logs/$2/$1.results" >>"$log" 2>&1 </dev/null || status=$?
		fi
	fi
	judge "$status" "$2" "$1" $((SECONDS - start - booted)) "$cpu" "$description"
}

host_test() { # NAME COMMAND DESCRIPTION
	local log=$logs/host/$1.log start=$SECONDS status=0 cpu=0
	attended "$2" >"$log" 2>&1 </dev/null
	judge "$status" host "$1" $((SECONDS - start)) "$cpu" "$3"
}
