#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: qcow2-maint on a live device, killed, failed or interrupted at each step, and used in wrong ways
# needs: qemu-img qemu-io dmsetup jq blockdev chattr mkfs.ext4
# timeout: 1200
# mem: 3G
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh
# shellcheck source=tests/lib/random.sh
. tests/lib/random.sh
# shellcheck source=tests/maint/live.sh
. tests/maint/live.sh

seed=${LIVEBLK_SEED:-$RANDOM}
signals=20
if [ "${LIVEBLK_FULL:-0}" = 1 ]; then signals=200; fi
size=$((2 << 20))
points=0

make_base() {
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
	state="$(snapshots "$image")$(lb_sectors "$image")"
}

killed_at() { # K WORD...
	local k=$1 status=0
	shift
	fresh
	env LD_PRELOAD="$shim" LIVEBLK_STOP_AT="$k" "$maint" "$@" >/run/liveblk-out 2>&1 || status=$?
	[ "$status" -eq 99 ] || lb_fail "ended with $status instead of being stopped at $k: $*"
	if is_suspended; then
		must_fail "suspended already" "$maint" snapshot create "$name" more
	fi
	must "$maint" resume "$name"
	settled "killed at $k: $*"
	[ "$state" = "$before" ] || [ "$state" = "$after" ] || lb_fail "neither before nor after: $state, $*"
	points=$((points + 1))
}

# One failure: it is refused with nothing changed, or done all the same.
failed_at() { # K WORD...
	local k=$1 status=0
	shift
	fresh
	env LD_PRELOAD="$shim" LIVEBLK_STOP_AT="$k" LIVEBLK_STOP_ONCE=1 "$maint" "$@" >/run/liveblk-out 2>&1 || status=$?
	settled "failed at $k: $*"
	case $status in
	0) [ "$state" = "$after" ] || lb_fail "done, but $state: failed at $k, $*" ;;
	1) [ "$state" = "$before" ] || grep -q "the edit is done or not" /run/liveblk-out ||
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
	settled "SIG$signal at $k: $*"
	[ "$state" = "$before" ] || [ "$state" = "$after" ] || lb_fail "neither before nor after: $state, $*"
	points=$((points + 1))
}

at_each_step() { # WORD...
	local n k
	local some=(INT TERM HUP QUIT USR1 PIPE ALRM)
	fresh
	before="$(snapshots "$name")$(lb_sectors "$image")"
	changes_of /run/liveblk-log "$@"
	settled "$*"
	after=$state
	n=$(wc -l </run/liveblk-log)
	[ "$n" -ge 6 ] || lb_fail "only $n changes were seen: $*"
	lb_step "$* ($n steps)"
	for ((k = 1; k <= n; k++)); do
		killed_at "$k" "$@"
		failed_at "$k" "$@"
		interrupted_at "$k" "${some[k % ${#some[@]}]}" "$@"
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

test_concurrent() {
	local first
	lb_step "one call at a time, and it says who has the image"
	fresh
	changes_of /run/liveblk-log snapshot create "$name" trial
	first=$(first_of /run/liveblk-log pwrite)
	hold_at "$first" snapshot create "$name" slow
	must_fail "in use by qcow2-maint \\(process $held\\)" "$maint" snapshot create "$name" fast
	must_fail "in use by qcow2-maint \\(process $held\\)" "$maint" snapshot create "$image" fast
	must_fail "in use by qcow2-maint \\(process $held\\)" "$maint" resume "$name"
	must_fail "in use by qcow2-maint \\(process $held\\)" "$maint" detach "$name"
	must_fail "in use by qcow2-maint" "$maint" info "$image"
	"$maint" info "$name" | grep -q suspended || lb_fail "info does not say that it is suspended"
	let_go
	[ "$status" -eq 0 ] || lb_fail "the first call ended with $status"
	lb_step "one that is killed blocks nobody"
	hold_at "$first" snapshot create "$name" killed
	kill -KILL "$held"
	let_go
	is_suspended || lb_fail "killed in the middle, and not suspended"
	must "$maint" resume "$name"
	must "$maint" snapshot create "$name" next
	settled "concurrent calls"
	[[ $state == *"slow next "* ]] || lb_fail "other snapshots: $state"
}

test_short_lock() {
	lb_step "resume waits for a program that has the image for a moment"
	local status first
	fresh
	changes_of /run/liveblk-log snapshot create "$name" trial
	first=$(first_of /run/liveblk-log dm-resume)
	hold_at "$first" snapshot create "$name" patient
	qemu-io -r -f qcow2 -c "sleep 1500" "$image" >/dev/null &
	sleep 0.7
	let_go
	[ "$status" -eq 0 ] || lb_fail "ended with $status"
	wait
	settled "a short lock"
}

test_output_on_device() {
	lb_step "output that goes to the device itself"
	local mnt=/run/liveblk-own
	mkdir -p "$mnt"
	lb_image "$image.own" 64M
	must "$maint" attach "$image.own" "$name"
	mkfs.ext4 -q "$device"
	mount "$device" "$mnt"
	cp "$maint" "$mnt/tool"
	(cd "$mnt" && ./tool snapshot create "$name" own --json >out 2>err </dev/null) || lb_fail "failed: $(cat "$mnt/err")"
	grep -q pause-ms "$mnt/out" || lb_fail "no output"
	must_be_live "own output"
	must_fail "in use" "$maint" resize --shrink "$name" 32M
	must_fail "in use" "$maint" detach "$name"
	must "$maint" resize "$name" 80M
	[ "$(blockdev --getsize64 "$device")" = $((80 << 20)) ] || lb_fail "not 80 MiB"
	umount "$mnt"
	must_fail "give --shrink" "$maint" resize "$name" 64M
	must "$maint" resize --shrink "$name" 64M
	[ "$(blockdev --getsize64 "$device")" = $((64 << 20)) ] || lb_fail "not 64 MiB"
	must "$maint" detach "$name"
	lb_check "$image.own"
	rm "$image.own"
}

test_wrong_use() {
	lb_step "wrong use is refused, with the reason"
	local pid
	fresh
	must_fail "in use by the live device $name" "$maint" snapshot create "$image" x
	must_fail "in use by the live device $name" "$maint" check "$image"
	must_fail "in use by the live device $name" "$maint" resize "$image" +1M
	must_fail "live device cannot be reverted" "$maint" snapshot revert "$name" one
	must_fail "already" "$maint" attach "$image" "$name"
	must_fail "in use by the live device $name" "$maint" attach "$image" other
	must_fail "is the name or id" "$maint" snapshot create "$name" one
	must_fail "nothere" "$maint" snapshot delete "$device" nothere
	must_fail "none" "$maint" detach nothere
	must_fail "none" "$maint" resume nothere
	must_fail "not a .*dm-qcow2 device" "$maint" detach lb-ram0
	must_fail "not a .*dm-qcow2 device" "$maint" snapshot list lb-ram0
	"$maint" resume "$name" | grep -q "is not suspended" || lb_fail "resume of a live device"
	lb_step "a device that its owner has suspended"
	dmsetup suspend "$name"
	must_fail "qcow2-maint resume $name" "$maint" snapshot create "$name" x
	is_suspended || lb_fail "resumed, though its owner suspended it"
	must "$maint" resize "$image" +1M
	must "$maint" resume "$name"
	settled "suspended by its owner"
	lb_step "a table that another program has loaded"
	fresh
	dmsetup suspend "$name"
	dmsetup reload "$name" --table "0 $((size / 512)) linear /dev/mapper/lb-ram1 0"
	must_fail "not a dm-qcow2" "$maint" resume "$name"
	dmsetup clear "$name"
	must "$maint" resume "$name"
	settled "a foreign table"

	lb_step "read-only, and not what it should be"
	cp "$base" "$image"
	must "$maint" attach "$image" "$name" --read-only
	[ "$(blockdev --getro "$device")" = 1 ] || lb_fail "read-only, and writable"
	must_fail "attached read-only" "$maint" snapshot create "$name" x
	must "$maint" check "$name"
	settled "read-only"
	chattr +i "$image"
	must_fail "writing: Operation not permitted" "$maint" attach "$image" "$name"
	must_fail "writing: Operation not permitted" "$maint" snapshot create "$image" x
	must "$maint" attach "$image" "$name" --read-only
	settled "a file that cannot be written"
	chattr -i "$image"
	mount -o remount,ro "$dir"
	must_fail "Read-only file system" "$maint" attach "$image" "$name"
	must_fail "Read-only file system" "$maint" snapshot create "$image" x
	must "$maint" attach "$image" "$name" --read-only
	must "$maint" detach "$name"
	mount -o remount,rw "$dir"
	echo "no image" >"$dir/text"
	must_fail "not a QCOW2 image|magic" "$maint" attach "$dir/text" "$name"
	must_fail "No such file" "$maint" attach "$dir/nothere" "$name"

	lb_step "an image that QEMU has open"
	qemu-io -f qcow2 -c "sleep 100000" "$image" >/dev/null &
	pid=$!
	sleep 1
	must_fail "in use by qemu-io \\(process $pid\\)" "$maint" attach "$image" "$name"
	kill "$pid"
	wait "$pid" || true
	must "$maint" attach "$image" "$name"
	settled "after QEMU"
}

test_backing() {
	lb_step "a backing file is refused, and the chain shown"
	must qemu-img create -q -f qcow2 -b "$base" -F qcow2 "$dir/upper.qcow2"
	must_fail "does not support backing files yet" "$maint" attach "$dir/upper.qcow2" "$name"
	must_fail "qcow2 +$dir/upper.qcow2.*qcow2 +$base.*does not support" "$maint" attach "$dir/upper.qcow2" "$name" \
		--backing-chain
	! dmsetup info "$name" >/dev/null 2>&1 || lb_fail "attached all the same"
}

test_odd_paths() {
	lb_step "blanks and backslashes in the path"
	local odd="$dir/a b\\c	d.qcow2"
	cp "$base" "$odd"
	must "$maint" attach "$odd" "$name"
	must "$maint" snapshot create "$name" odd
	must "$maint" resize "$name" +1M
	[ "$("$maint" info --json "$name" | jq -r .filename)" = "$odd" ] || lb_fail "not its path"
	must_fail "in use by the live device $name" "$maint" info "$odd"
	must "$maint" detach "$name"
	lb_check "$odd"
	rm "$odd"
}

test_replaced_file() {
	lb_step "another file in the place of the image"
	fresh
	mv "$image" "$image.moved"
	cp "$base" "$image"
	must_fail "is not the file that the device has open" "$maint" snapshot create "$name" x
	mv "$image.moved" "$image"
	must "$maint" snapshot create "$name" x
	settled "a replaced file"
}

test_no_space() {
	lb_step "no space for an edit"
	local small
	small=$(lb_scratch 40 ext4)
	lb_image "$small/full.qcow2" 8M -o cluster_size=4k
	must "$maint" attach "$small/full.qcow2" "$name"
	dd if=/dev/urandom of="$device" bs=1M count=8 oflag=direct conv=fsync status=none
	local sum
	sum=$(sha1sum <"$device")
	# Gives back what is allocated ahead.
	dmsetup suspend "$name"
	dmsetup resume "$name"
	dd if=/dev/zero of="$small/fill" bs=64k status=none 2>/dev/null || true
	must_fail "No space left on device" "$maint" snapshot create "$name" x
	must_be_live "no space"
	rm "$small/fill"
	[ "$(sha1sum <"$device")" = "$sum" ] || lb_fail "the data has changed"
	must "$maint" snapshot create "$name" x
	must "$maint" detach "$name"
	lb_check "$small/full.qcow2"
}

test_missing_target() {
	lb_step "without the module"
	must_fail "modprobe dm-qcow2" "$maint" attach "$image" "$name"
}

echo "seed $seed"
random_seed "$seed"
modprobe dm-mod
dir=$(lb_scratch 300 xfs)
base=$dir/base.qcow2 image=$dir/image.qcow2
lb_ramdisk 8 >/dev/null
make_base
cp "$base" "$image"
test_missing_target
lb_load
test_odd_paths
test_backing
test_wrong_use
test_replaced_file
test_no_space
test_output_on_device
test_concurrent
test_short_lock
at_each_step snapshot create "$name" new
at_each_step resize "$name" +1M
at_each_step snapshot delete "$name" one
at_each_step snapshot rename "$name" one first
test_killed_attach
test_random_signals
lb_unload
echo "$points points, no exception"
