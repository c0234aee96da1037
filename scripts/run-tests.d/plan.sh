# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What there is to do. Sourced by run-tests, whose variables it uses.
# shellcheck disable=SC2154

selected() { # NAME
	local t
	[ ${#tests[@]} -gt 0 ] || return 0
	for t in "${tests[@]}"; do [ "$t" != "$1" ] || return 0; done
	return 1
}

# Those marked "first" before all others, as they tell most of each module for when there is not time for all; then by
# their time limits, as what takes long is not to begin when all else has ended.
vm_tests_in_order() {
	local file
	vm_test_files | while read -r file; do
		echo "$(field "$file" first no) $(field "$file" timeout 300) $file"
	done | sort -s -k 1,1r -k 2,2nr | cut -d ' ' -f 3
}

kernels_of() { # FILE
	local kernel allowed those=()
	allowed=" $(field "$1" kernels "${tested_versions[*]}") "
	for kernel in "${kernels[@]}"; do
		! is_version "${kernel#debug-}" || [[ $allowed == *" ${kernel#debug-} "* ]] || continue
		those+=("$kernel")
	done
	echo "${those[*]}"
}

# Which kernel is the first for a test changes from commit to commit, so that in the end all have been on each.
commit=${LIVEBLK_COMMIT-$(git -C "$repo" rev-parse HEAD 2>/dev/null || true)}
first_kernel() { # NAME COUNT: its index
	local sum
	sum=$(cksum <<<"$commit $1")
	echo $((${sum%% *} % $2))
}

# The second CPU doubles what each start of a program costs where CPUs are emulated, so that it is for tests that show
# something of it. In their full length and on debug kernels all have it.
cpus() { # FILE KERNEL
	if [ "${LIVEBLK_FULL:-0}" = 1 ] || [[ $2 == debug-* ]]; then echo 2; else field "$1" cpus 2; fi
}

# The kind of VM: tests that want the same one can be run in it one after the other. "own" is one for this test alone:
# because it panics, changes what cannot be changed back, or says something of the memory or of a fresh system.
# Most want less memory than what all get.
vm_shape() { # FILE KERNEL
	local mem disks
	if [ "$(field "$1" boot shared)" = own ] || [ "${LIVEBLK_SHARE:-yes}" = no ]; then
		echo own
		return
	fi
	mem=$(field "$1" mem 2G)
	case $mem in 2G | 3G) mem=3G ;; esac
	disks=$(field "$1" disks '')
	echo "$mem,$(cpus "$1" "$2"),$(field "$1" one-thread no),$(field "$1" icount no),${disks// /+},$(field "$1" append '' | tr ' ' +)"
}

plan_host() {
	local file name
	if [ "$mode" = all ] || [ "$mode" = once ] || [ "$mode" = quick ]; then
		for file in build/bin/unit-*; do
			name=${file##*/}
			[ -x "$file" ] && selected "$name" && echo "0 unit $name host -"
		done
	fi
	for file in tests/runner/*.sh; do
		name=${file##*/} name=${name%.sh}
		[ -x "$file" ] || continue
		selected "$name" || continue
		case $mode-$(field "$file" debug no) in
		all-no | once-no | debug-yes | debug-full | debug-pass-yes) echo "0 runner $name host -" ;;
		esac
	done
	return 0
}

plan_vm() {
	local file name shape those turn n count first
	for file in $(vm_tests_in_order); do
		name=${file##*/} name=${name%.sh}
		selected "$name" || continue
		case $mode in
		quick | debug-pass) [ "$(field "$file" debug no)" = yes ] || [ ${#tests[@]} -gt 0 ] || continue ;;
		esac
		read -r -a those < <(kernels_of "$file")
		count=${#those[@]}
		[ "$count" -gt 0 ] || continue
		first=$(first_kernel "$name" "$count")
		for ((turn = 0; turn < count; turn++)); do
			case $mode-$turn in once-[1-9]* | rest-0) continue ;; esac
			n=$(((first + turn) % count))
			shape=$(vm_shape "$file" "${those[n]}")
			echo "$turn vm $name ${those[n]} $shape"
		done
	done
}

# One thing to do in each line: TURN KIND NAME KERNEL SHAPE. Every test on one kernel, not all on the same, and then on
# the next: if time runs out, each has been run.
plan() {
	{
		plan_host
		plan_vm
	} | sort -s -n -k 1,1
}

# A test that was asked for by name has to exist.
check_names() {
	local t
	for t in ${tests[@]+"${tests[@]}"}; do
		grep -q "^[0-9]* [a-z]* $t " "$results/plan" ||
			die "there is no test '$t' for ${kernels[*]} (see run-tests --list)"
	done
}
