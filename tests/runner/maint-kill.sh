#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: qcow2-maint stopped at each write, torn, lost or without space: before or after, and a second run completes
set -eu -o pipefail
# shellcheck source=tests/runner/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/maint/lib.sh
. "$repo/tests/maint/lib.sh"

points=0
base=$work/base.qcow2
image=$work/image.qcow2
what=''

# Many pieces, two snapshots that share some of them, and free clusters in between.
make_base() { # CREATE-OPTIONS SIZE [no-snapshots]
	local unit=$(($2 / 64))
	must qemu-img create -q -f qcow2 -o "$1" "$base" "$2"
	must qemu-io -f qcow2 -c "write -P 1 0 $((unit * 20))" -c "write -P 2 $((unit * 40)) $((unit * 9))" "$base"
	[ $# -lt 3 ] || return 0
	must qemu-img snapshot -c one "$base"
	must qemu-io -f qcow2 -c "write -P 3 $((unit * 10)) $((unit * 15))" "$base"
	must qemu-img snapshot -c two "$base"
	must qemu-io -f qcow2 -c "write -P 4 $((unit * 5)) $((unit * 8))" -c "write -P 5 $((unit * 60)) $((unit * 3))" "$base"
}

# Sets the refcount of a cluster in the first refcount block, of 16-bit refcounts.
set_refcount() { # CLUSTER VALUE
	local table block
	table=$(od -An -tx1 -j 48 -N 8 "$base" | tr -d ' \n')
	block=$(od -An -tx1 -j $((16#$table)) -N 8 "$base" | tr -d ' \n')
	printf '%b' "\\0\\x$2" | dd of="$base" bs=1 seek=$((16#$block + 2 * $1)) conv=notrunc status=none
}

# What must not change but at one go: sizes, names, contents, bitmaps.
state() {
	local name
	fingerprint "$image" 2>/dev/null # it warns of an extension that does not count
	qemu-img info --output=json "$image" 2>/dev/null | grep -E '"(virtual-size|name|granularity|flags|auto)"'
	while read -r name; do
		"$maint" bitmap dump "$image" "$name"
	done < <(qemu-img info --output=json "$image" 2>/dev/null | jq -r '."format-specific".data.bitmaps[]?.name')
}

# Runs the command on a fresh copy with the shim set up so.
interrupted() { # VARIABLE=N...
	local status=0
	cp "$base" "$image"
	points=$((points + 1))
	what="$* ${command[*]}"
	run env LD_PRELOAD="$shim" "$@" "$maint" "${command[@]}" || status=$?
	case "$status $*" in
	99\ * | [0-3]\ *FAIL*) ;;
	*) fail "ended with $status: $what" ;;
	esac
	# Several writes come before the header's where there are bitmaps, and to take them back fails, too.
	if [ "$status" -eq 1 ] && [ "$verdict" != judge_bitmap ] && [ "$(head -c 512 "$image" | sha1sum)" = "$(head -c 512 "$base" | sha1sum)" ]; then
		cmp -s "$image" "$base" || fail "refused, but something has changed: $what"
	fi
}

# The state, without asking qemu-img if each byte is that of a known one.
known_state() {
	if cmp -s -n "$(stat -c %s "$base")" "$image" "$base"; then
		echo "$before"
	elif cmp -s "$image" "$work/after.qcow2"; then
		echo "$after"
	else
		state
	fi
}

judge() {
	local now
	must_be_sound "$image" leaks
	now=$(known_state)
	if [ "$now" != "$before" ]; then
		[ "$now" = "$after" ] || fail "neither before nor after: $what"
		return 0
	fi
	must "$maint" "${command[@]}"
	must_be_sound "$image"
	[ "$(known_state)" = "$after" ] || fail "a second run does not complete: $what"
}

# Bitmaps change in steps, which may leave clusters that nothing uses; all of them are found again.
judge_bitmap() {
	local now
	must_be_sound "$image" leaks
	now=$(known_state)
	if [ "$now" != "$before" ]; then
		[ "$now" = "$after" ] || fail "neither before nor after: $what"
	else
		must "$maint" "${command[@]}"
	fi
	must qemu-img check -q -r leaks "$image"
	must_be_sound "$image"
	[ "$(state)" = "$after" ] || fail "a second run does not complete: $what"
}

# A repair changes no content, and what it was stopped at it can do again.
judge_repair() {
	must "$maint" "${command[@]}"
	must_be_sound "$image"
	[ "$(state)" = "$after" ] || fail "a repair changes content: $what"
}

# Each point at which the command can be stopped; $image is its image.
at_each_write() { # JUDGE WORD...
	local verdict=$1 n k
	shift
	command=("$@")
	cp "$base" "$image"
	before=$(state)
	rm -f "$work/log"
	must env LD_PRELOAD="$shim" LIVEBLK_STOP_LOG="$work/log" "$maint" "${command[@]}"
	must_be_sound "$image"
	after=$(state)
	cp "$image" "$work/after.qcow2"
	n=$(wc -l <"$work/log")
	[ "$n" -ge 2 ] || fail "only $n writes were seen: $*"
	for ((k = 1; k <= n; k++)); do
		interrupted LIVEBLK_STOP_AT=$k
		"$verdict"
		interrupted LIVEBLK_STOP_AT=$k LIVEBLK_STOP_FAIL=1
		"$verdict"
		case $(sed -n "${k}p" "$work/log") in
		pwrite*)
			interrupted LIVEBLK_STOP_AT=$k LIVEBLK_STOP_HALF=1
			"$verdict"
			interrupted LIVEBLK_STOP_SKIP=$k
			"$verdict" ;;
		esac
	done
}

every_edit() { # SIZE
	at_each_write judge snapshot create "$image" three
	at_each_write judge snapshot delete "$image" one
	at_each_write judge snapshot revert "$image" one
	at_each_write judge snapshot rename "$image" two second
	case $1 in
	v2) ;;
	*)
		at_each_write judge resize "$image" "$(($1 * 4))"
		at_each_write judge resize --shrink "$image" "$(($1 / 2))" ;;
	esac
}

geometries=('cluster_size=64k' 'cluster_size=512,refcount_bits=64' 'extended_l2=on,cluster_size=16k,refcount_bits=8')
if [ "${LIVEBLK_FULL:-0}" = 1 ]; then
	geometries+=('compat=v2,cluster_size=4k' 'cluster_size=2M,refcount_bits=4' 'cluster_size=1k,refcount_bits=32'
		'cluster_size=4k,refcount_bits=16,lazy_refcounts=on')
fi
for options in "${geometries[@]}"; do
	size=$((2 << 20))
	[[ $options != *2M* ]] || size=$((32 << 20))
	echo "$options"
	make_base "${options/compat=v2/compat=0.10}" "$size"
	[[ $options != compat=v2* ]] || size=v2
	every_edit "$size"
done

every_bitmap_edit() {
	at_each_write judge_bitmap bitmap add "$image" first
	must qemu-img bitmap --add "$base" a
	at_each_write judge_bitmap bitmap remove "$image" a
	must qemu-img bitmap --add -g 512 "$base" b
	must qemu-io -f qcow2 -c "write -P 6 100k 300k" "$base"
	at_each_write judge_bitmap bitmap remove "$image" a
	at_each_write judge_bitmap bitmap clear "$image" b
	at_each_write judge_bitmap bitmap merge "$image" a b
	at_each_write judge_bitmap bitmap disable "$image" b
}

echo "bitmaps"
make_base cluster_size=64k $((2 << 20)) no-snapshots
every_bitmap_edit
make_base cluster_size=4k,data_file="$work/data" $((2 << 20)) no-snapshots
at_each_write judge_bitmap bitmap add "$image" first

echo "repairs"
make_base cluster_size=4k $((2 << 20))
set_refcount 40 07
at_each_write judge_repair check --repair all "$image"
set_refcount 40 00
at_each_write judge_repair check --repair all "$image"
echo "$points points, no exception"
