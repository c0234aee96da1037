# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What the VM tests ask for. Needs tests/vm/lib.sh.

log_marks=0

# The command must fail, and say why.
must_fail() { # PATTERN COMMAND...
	local pattern=$1 output
	shift
	if output=$("$@" 2>&1); then
		lb_fail "did not fail: $*"
	fi
	[[ $output =~ $pattern ]] || lb_fail "failed, but not with '$pattern': $*: $output"
}

# PATTERN must be in what the kernel has said since the last mark.
mark_log() {
	log_marks=$((log_marks + 1))
	echo "liveblk test mark $log_marks." >/dev/kmsg
}
log_since_mark() { dmesg | sed "1,/liveblk test mark $log_marks\\.\$/d"; }
must_be_logged() { # PATTERN
	log_since_mark | grep -E "$1" >/dev/null || {
		log_since_mark
		lb_fail "the kernel log does not say '$1'"
	}
}

# The bytes [OFFSET, OFFSET + LENGTH) must all be BYTE.
must_hold() { # FORMAT IMAGE BYTE OFFSET LENGTH
	local output access=()
	[[ $2 != /dev/mapper/* ]] || access=(-t none)
	output=$(qemu-io -r ${access[@]+"${access[@]}"} -f "$1" -c "read -P $3 $4 $5" "$2" 2>&1) || output+=" failed"
	[[ $output != *failed* ]] || lb_fail "$2 does not hold $3 at $4+$5: $output"
}

# A direct read or write of the device ends with this error and no other.
must_give() { # ERROR-TEXT dd-operands...
	local text=$1
	shift
	must_fail "$text" dd status=none "$@"
}
