# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What the tests of qcow2-maint share. They work on plain files, without a kernel module or a VM.
# Needs tests/runner/lib.sh.
# shellcheck disable=SC2154 # set there
# shellcheck source=tests/lib/random.sh
. "$repo/tests/lib/random.sh"

maint=$repo/build/bin/qcow2-maint
# shellcheck disable=SC2034 # used by the tests
shim=$repo/build/bin/maint-stop-shim.so
[ -x "$maint" ] || fail "there is no $maint: run make tools"

# Runs a command; its output is kept for the report of a failure.
run() {
	"$@" >"$work/out" 2>"$work/err"
}

must() { run "$@" || fail "failed with $?: $*"; }

# qemu-img check finds nothing, or leaks where these are allowed.
must_be_sound() { # IMAGE [leaks]
	local status=0
	run qemu-img check "$1" || status=$?
	[ "$status" -eq 0 ] || { [ "$status" -eq 3 ] && [ "${2:-}" = leaks ]; } ||
		fail "qemu-img check of $1 gives $status: ${what:-}"
}

snapshot_names() { # IMAGE: one per line, in order
	qemu-img snapshot -l "$1" | awk 'NR > 2 { print $2 }'
}

# The content of the disk, or of a snapshot, as a raw file.
extract() { # IMAGE FILE [SNAPSHOT]
	local from=()
	[ $# -lt 3 ] || from=(-l "snapshot.name=$3")
	must qemu-img convert ${from[@]+"${from[@]}"} -O raw "$1" "$2"
}

# One line for the disk and each snapshot: name, size, hash.
fingerprint() { # IMAGE
	local name
	extract "$1" "$work/raw"
	echo "active $(stat -c %s "$work/raw") $(sha1sum <"$work/raw")"
	while read -r name; do
		extract "$1" "$work/raw" "$name"
		echo "$name $(sha1sum <"$work/raw")"
	done < <(snapshot_names "$1")
}
