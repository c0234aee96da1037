# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# vm serve: one VM for several commands, the jobs. Sourced by scripts/vm.
#
# Each line of standard input is a job, its words quoted as printf %q does it:
#     TIMEOUT LOG KERNEL-LOG RESULTS COMMAND...
# The VM is started for the first one. When a job has ended, and what it has left was taken away, a line is printed:
#     done STATUS up|over CPU-SECONDS BOOT-SECONDS
# STATUS is that of vm run. "over": the VM is not fit for another job, because this one has failed or has left something
# that cannot be taken away; nothing more is read then. The job's output, and what there is to say about it, are in
# LOG, what the kernel said in KERNEL-LOG. If it complains after a job was judged, in place of the next answer, or at
# the end of the input, this is printed and explained in that job's LOG:
#     late
# The next job was not begun then.
#
# scripts/vm.d/guest is the other side; see "serve" there.
# shellcheck disable=SC2154,SC2034 # tmp, and what scripts/vm reads
job=0 out_seen=0 job_log=/dev/null tidy_limit=300

# Appends what the guest has written since the last time to the job's log.
drain() {
	local size
	size=$(stat -c %s "$tmp/out")
	[ "$size" -gt "$out_seen" ] || return 0
	tail -c "+$((out_seen + 1))" "$tmp/out" | head -c $((size - out_seen)) >>"$job_log" || true
	out_seen=$size
}

# What QEMU has used of the processors, in seconds.
cpu_seconds() {
	local words
	read -r -a words 2>/dev/null <"/proc/$qemu/stat" || { echo 0; return; }
	echo $(((words[13] + words[14]) / 100))
}

# As files, the last of which is complete when it is there.
hand_over() { # COMMAND...
	tell_after >"$tmp/ctl/job.$job.limit"
	write_command "$tmp/ctl/job.$job.new" "$@"
	mv "$tmp/ctl/job.$job.new" "$tmp/ctl/job.$job"
}

fetch_results() { # DIRECTORY
	if [ -n "$1" ]; then
		mkdir -p "$1"
		cp -r "$tmp/ctl/results/." "$1/"
	fi
	find "$tmp/ctl/results" -mindepth 1 -delete
}

# Runs one; its log is the standard error. Sets status, and over if no other is to follow.
run_job() { # KERNEL-LOG RESULTS COMMAND...
	local kernel_log=$1 to=$2 left
	shift 2
	over=yes
	if [ -z "$qemu" ]; then
		local limit=$timeout began=$SECONDS
		timeout=600
		run_vm boot
		timeout=$limit
		booted=$((SECONDS - began))
	fi
	if [ "$outcome" = "done" ]; then
		hand_over "$@"
		watch '' "job $job exit"
	fi
	if [ "$outcome" = "done" ]; then
		# Not of the job's own time. What hangs then hangs because of it, and is its failure.
		timeout=$tidy_limit
		watch '' "job $job end"
	fi
	drain
	fetch_results "$to"
	judge "job $job exit"
	raw_console | tr -d '\r' >"$kernel_log"
	[ "$outcome" = "done" ] || return 0
	left=$(verdict "job $job end")
	case $left in
	nothing) [ "$status" = 125 ] || over='' ;;
	failed) ;;
	module*)
		note "in use after all that could use it is gone: $left"
		[ "$status" != 0 ] || status=125 ;;
	*) note "no other test runs in this VM, because this one has left: $left" ;;
	esac
}

# A process that nobody has waited for yet still has its number.
alive() {
	local state
	state=$(ps -o stat= -p "$qemu") && [[ $state != Z* ]]
}

late() {
	{
		outcome=${outcome:-silent}
		alive || outcome=silent
		note "after its end:"
		judge "job $job exit"
	} 2>>"$job_log"
	echo late
}

healthy() { alive && ! complained; }

serve() {
	local line words used=0 sum state booted
	outcome="done"
	case $kernel in debug-*) tidy_limit=900 ;; esac
	while IFS= read -r line; do
		eval "words=($line)"
		if [ "$job" -gt 0 ] && ! healthy; then
			late
			return
		fi
		job=$((job + 1))
		timeout=${words[0]} job_log=${words[1]}
		booted=0
		run_job "${words[@]:2}" 2>>"$job_log"
		sum=$(cpu_seconds)
		[ "$sum" -ge "$used" ] || sum=$used
		if [ -n "$over" ]; then state=over; else state=up; fi
		echo "done $status $state $((sum - used)) $booted"
		used=$sum
		[ -z "$over" ] || return 0
		console_from=$(stat -c %s "$tmp/console")
	done
	[ "$job" -eq 0 ] || healthy || late
}
