# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What the VM tests of qcow2-maint on live devices share. Needs tests/vm/lib.sh.
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh
# shellcheck source=tests/lib/random.sh
. tests/lib/random.sh
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

# A small image, $base, and copies of it that are attached: $image.
size=$((2 << 20))

make_base() {
	dir=$(lb_scratch 300 ext4)
	base=$dir/base.qcow2 image=$dir/image.qcow2
	lb_image "$base" "$size" -o cluster_size=4k
	must qemu-io -f qcow2 -c "write -P 1 0 512k" "$base"
	must qemu-img snapshot -c one "$base"
	must qemu-io -f qcow2 -c "write -P 2 100k 300k" "$base"
	content=$(disk_of "$base")
}

# What the guest sees in the part that is always there.
disk_of() { # IMAGE
	qemu-img convert -f qcow2 -O raw "$1" "$dir/raw" || lb_fail "cannot read $1"
	head -c "$size" "$dir/raw" | sha1sum
}
device_content() { head -c "$size" "$device" | sha1sum; }
snapshots() { "$maint" snapshot list --json "$1" | jq -r '.[].name' | tr '\n' ' '; }

fresh() {
	cp "$base" "$image"
	must "$maint" attach "$image" "$name"
}

# The device works, has the size of its image, and the guest's data; then the image is sound, and before or after.
settled() { # WHAT
	must_be_live "$1"
	[ "$(blockdev --getsz "$device")" = "$(lb_sectors "$image")" ] || lb_fail "not the image's size: $1"
	[ "$(device_content)" = "$content" ] || lb_fail "the guest's data has changed: $1"
	must "$maint" detach "$name"
	lb_check "$image"
	[ "$(disk_of "$image")" = "$content" ] || lb_fail "the data has changed on disk: $1"
	# shellcheck disable=SC2034 # used by the tests
	state="$(snapshots "$image")$(lb_sectors "$image")"
}
