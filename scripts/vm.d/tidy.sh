# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Between two jobs, in process 1 of the VM: take away what the last one has left, and compare what the kernel has then
# with what it had at the start. Whatever is not known here shows as a difference, and costs a new VM, not a wrong
# verdict. Sourced by scripts/vm.d/guest.
ours='dm_qcow2 blk_interposer loop_copy null_copy blk_copy'

# A program of the tree, found in the VM's first root.
tool() { "$(</run/liveblk/build)/bin/$1" "${@:2}"; }

modules_loaded() { local name; while read -r name _; do echo "$name"; done </proc/modules; }

lines_of() { # WORD FILE: without starting a program, which costs more than all else here
	local line
	[ ! -e "$2" ] || while IFS= read -r line; do echo "$1 $line"; done <"$2"
}

disks() {
	local path name part
	for path in /sys/block/*; do
		name=${path##*/}
		echo "disk $name"
		case $name in
		vd*)
			echo "disk $name has $(<"$path/size") sectors, read-only $(<"$path/ro")"
			for part in "$path/$name"*; do [ ! -d "$part" ] || echo "disk ${part##*/}"; done ;;
		# In the debug kernels they are built in, and do not go with a module.
		ram*) cmp -s -n 1048576 "/dev/$name" /dev/zero || echo "disk $name is not empty" ;;
		esac
	done
}

# Settings of the kernel, without what counts the doings of the system, cannot be read twice alike, or makes all
# processors do something when it is read.
counters=(dentry-state inode-nr inode-state file-nr aio-nr ns_last_pid tainted nr 'perf_*' cad_pid hung_task_warnings
	drop_caches compact_memory stat_refresh)
settings_of_kernel() {
	(cd /proc/sys && grep -rsH "${counters[@]/#/--exclude=}" --exclude-dir={quota,random,sched_domain} . vm fs kernel)
}

tracing=(/sys/kernel/tracing/{enabled_functions,set_event,kprobe_events,tracing_on,current_tracer,trace_options})
tracing+=(/sys/kernel/tracing/set_ftrace_{filter,notrace,pid} /sys/kernel/tracing/{set_event_pid,trace_clock})

stop_tracing() {
	local path
	for path in /sys/kernel/tracing/{set_event,kprobe_events,set_event_pid,trace}; do [ ! -e "$path" ] || echo >"$path"; done
	[ ! -e /sys/kernel/tracing/tracing_on ] || echo 1 >/sys/kernel/tracing/tracing_on
}

# What a job could change for the next one, one thing a line.
state() {
	local path
	disks
	modules_loaded | while read -r name; do echo "module $name"; done
	lines_of swap /proc/swaps
	lines_of mount /proc/mounts
	for path in "${tracing[@]}"; do lines_of "${path##*/}" "$path"; done
	lines_of cgroup /sys/fs/cgroup/cgroup.subtree_control
	printf 'cgroup %s\n' /sys/fs/cgroup/*/
	printf 'link %s\n' /sys/class/net/*
	lines_of online /sys/devices/system/cpu/online
	settings_of_kernel
}

remember_state() {
	state >/run/state
	modules_loaded >/run/modules
}

# Programs have a file that they are run from; what belongs to the kernel has none. Not in a subshell, which is one too.
programs_run() {
	local p
	for p in /proc/[0-9]*; do
		[ "$p" = /proc/1 ] || [ ! -e "$p/exe" ] || return 0
	done
	return 1
}

# What waits for a device that is suspended could not be ended.
resume_devices() {
	local path
	for path in /sys/block/dm-*/dm; do
		if [ -e "$path" ] && [ "$(<"$path/suspended")" = 1 ]; then dmsetup resume "$(<"$path/name")"; fi
	done
}

end_programs() {
	kill -KILL -1
	for _ in {1..100}; do
		programs_run || return 0
		nap 0.1
	done
	return 1
}

# The mount by which a job knew the device is gone, so that of the path only the name is right.
swap_off() {
	local path
	while read -r path _; do
		[ "$path" = Filename ] || swapoff "/dev/${path##*/}"
	done </proc/swaps
}

detach_disks() {
	local path name
	if [ -e /dev/blk-interposer ]; then
		for name in $(tool blk-interpose list --json | jq -r '.[].name'); do tool blk-interpose remove "$name"; done
	fi
	for path in /sys/block/loopc*; do [ ! -e "$path" ] || tool blk-copy loop detach "/dev/${path##*/}"; done
	for path in /sys/block/loop*/loop; do [ ! -e "$path" ] || { losetup -D; break; }; done
	for path in /sys/block/md*/md/array_state; do [ ! -e "$path" ] || echo clear >"$path"; done
	for path in /sys/block/dm-*/dm; do [ ! -e "$path" ] || dmsetup remove "$(<"$path/name")"; done
	for path in /sys/kernel/config/{null-copy,nullb}/*/; do [ ! -e "$path" ] || rmdir "$path"; done
}

# In the order of /proc/modules each comes before those that it uses.
unload_modules() {
	local names
	mapfile -t names < <(modules_loaded | grep -vxFf /run/modules)
	[ ${#names[@]} -eq 0 ] || rmmod "${names[@]}"
}

clear_cgroups() {
	local names name
	for name in /sys/fs/cgroup/*/; do
		[ ! -e "$name" ] || find "$name" -depth -type d -exec rmdir {} +
	done
	read -r -a names </sys/fs/cgroup/cgroup.subtree_control
	for name in "${names[@]}"; do echo "-$name" >/sys/fs/cgroup/cgroup.subtree_control; done
}

# As empty as they were, and without partitions.
empty_disks() {
	local path
	for path in /dev/vd? /dev/ram[0-9]*; do
		[ -b "$path" ] || continue
		blkdiscard -f "$path"
		[ ! -e "/sys/block/${path##*/}/${path##*/}1" ] || blockdev --rereadpt "$path"
	done
}

# Sets left: "nothing"; "module NAME", one of ours that is held although nothing is left that could hold it; or what
# else is not as it was. Some things are only late: mounts go a moment after the processes that had them.
tidy() {
	local differences name
	: >/run/tidy.log
	resume_devices >>/run/tidy.log 2>&1
	end_programs || { left="processes that cannot be killed"; return; }
	for _ in {1..25}; do
		{
			stop_tracing
			swap_off
			detach_disks
			unload_modules
			clear_cgroups
			empty_disks
		} >>/run/tidy.log 2>&1
		state >/run/state.now
		if cmp -s /run/state /run/state.now; then
			left=nothing
			return
		fi
		nap 0.2
	done
	differences=$(diff /run/state /run/state.now | grep '^[<>]')
	left=${differences//$'\n'/; }
	left=${left:0:300}
	! grep -qE '^. (disk|mount|swap) ' <<<"$differences" || return
	for name in $ours; do
		! grep -qx "> module $name" <<<"$differences" || left="module $name"
	done
}
