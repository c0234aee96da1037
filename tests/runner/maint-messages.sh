#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: qcow2-maint's exit statuses, messages and progress: usage, no memory, a lock's holder, terminal or pipe
set -eu -o pipefail
# shellcheck source=tests/runner/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/maint/lib.sh
. "$repo/tests/maint/lib.sh"

image=$work/image.qcow2
# shellcheck disable=SC2016 # for the shell inside
limited='ulimit -v "$1"; shift; exec "$@"'
# shellcheck disable=SC2016
one_closed='stream=$1; shift; eval "exec $stream>&-"; exec "$@"'
# shellcheck disable=SC2016
all_closed='exec 0>&- 1>&- 2>&-; exec "$@"'

ends_with() { # STATUS PATTERN COMMAND...
	local wanted=$1 pattern=$2 status=0
	shift 2
	run "$@" || status=$?
	[ "$status" -eq "$wanted" ] || fail "status $status, not $wanted: $*"
	grep -q -- "$pattern" "$work/err" || fail "not said: $pattern: $*"
}

must qemu-img create -q -f qcow2 -o cluster_size=4k "$image" 256M
must qemu-io -f qcow2 -c "write -P 1 0 256M" "$image"

echo "a size that is none is wrong usage, whatever the image is"
for size in x 1x +  1Kx 99999999999999999999; do
	ends_with 2 "read the size" "$maint" resize "$work/none" "$size"
done
ends_with 1 "give --shrink" "$maint" resize "$image" 1M
for size in 0.25G 0x10000000 262144K; do must "$maint" resize "$image" "$size"; done

echo "all tools have one frame: unknown subcommands are named, and there is a version"
for tool in qcow2-maint blk-interpose blk-copy; do
	must "$repo/build/bin/$tool" --version
	grep -qx "$tool from liveblk [0-9.]*" "$work/out" || fail "no version of $tool"
done
ends_with 2 "qcow2-maint: unknown subcommand 'none'" "$maint" none
ends_with 2 "qcow2-maint: unknown subcommand 'none'" "$maint" snapshot none
ends_with 2 "blk-interpose: unknown subcommand 'none'" "$repo/build/bin/blk-interpose" none
ends_with 2 "blk-copy: unknown subcommand 'none'" "$repo/build/bin/blk-copy" loop none
ends_with 1 "IMAGE is required" "$maint" check

echo "bitmaps that are damaged hide nothing else, and are as large as they claim"
must "$repo/build/bin/qcow2-hostile" make bitmaps-directory-beyond-the-end "$work/bitmaps"
ends_with 0 "list the bitmaps of '$work/bitmaps': " "$maint" info "$work/bitmaps"
grep -q "^virtual size:" "$work/out" || fail "nothing else is shown"
must "$repo/build/bin/qcow2-hostile" make bitmap-granularity-64-bits "$work/bitmaps"
must "$maint" bitmap list --json "$work/bitmaps"
jq -e '.[0].granularity == 0' "$work/out" >/dev/null || fail "a granularity out of all range is shown as another"

echo "a snapshot has a name, or is external; a file has nothing that a new image could be put on top of"
ends_with 2 "NAME is required" "$maint" snapshot create "$image"
ends_with 2 "excludes" "$maint" snapshot create "$image" name --external "$work/new"
ends_with 2 "equires --external" "$maint" snapshot create "$image" name --cluster-size 64K
ends_with 2 "luster-size" "$maint" snapshot create "$image" --external "$work/new" --cluster-size x
ends_with 1 "'$image': that is no live device; .* 'qemu-img create -f qcow2 -F qcow2 -b IMAGE NEW'" \
	"$maint" snapshot create "$image" --external "$work/new"
[ ! -e "$work/new" ] || fail "a new image was made"

echo "what a name has of control characters, and of what is no text, is JSON all the same"
must qemu-img create -q -f qcow2 "$work/odd" 1M
odd=$(printf 'a\001\t"\\\037\nb\377\303\244\003')
must qemu-img snapshot -c "$odd" "$work/odd"
must "$maint" snapshot list --json "$work/odd"
[ "$(jq -r '.[0].name' "$work/out")" = "$(printf 'a\001\t"\\\037\nb\357\277\275\303\244\003')" ] ||
	fail "another name: $(jq -c '.[0].name' "$work/out")"

echo "snapshots whose names are the ids of others"
must qemu-img create -q -f qcow2 "$work/named" 1M
for name in 3 2 1; do
	must qemu-io -f qcow2 -c "write -P $name 0 64k" "$work/named"
	must qemu-img snapshot -c "$name" "$work/named"
done
cp "$work/named" "$work/before"
ambiguous="2 have that id or name: id 1 with the name '3', id 3 with the name '1'; say which one with --id or --name"
ends_with 1 "$ambiguous" "$maint" snapshot delete "$work/named" 3
ends_with 1 "$ambiguous" "$maint" snapshot revert "$work/named" 3
ends_with 1 "$ambiguous" "$maint" snapshot rename "$work/named" 3 new
ends_with 1 "none with that name" "$maint" snapshot delete "$work/named" --name 4
ends_with 1 "none with that id" "$maint" snapshot delete "$work/named" --id 4
ends_with 2 "excludes" "$maint" snapshot delete "$work/named" --id --name 3
cmp "$work/named" "$work/before" || fail "refused, but something has changed"
must "$maint" snapshot delete "$work/named" 2
must "$maint" snapshot rename "$work/named" --id 3 first
must "$maint" snapshot revert --name "$work/named" 3
must qemu-io -r -f qcow2 -c "read -P 3 0 64k" "$work/named"
must "$maint" snapshot delete "$work/named" --name 3
[ "$(snapshot_names "$work/named")" = first ] || fail "other snapshots than 'first': $(snapshot_names "$work/named")"
must_be_sound "$work/named"

echo "no memory: the message names the image"
# Its L1 table takes 32 MiB.
must truncate -s 8T "$work/large"
dd if="$image" of="$work/large" bs=4k count=1 conv=notrunc status=none
printf '\0\x40\0\0\0\0\0\0\x40\0\0\0' | dd of="$work/large" bs=1 seek=36 conv=notrunc status=none
ends_with 1 "'$work/large': there is not enough memory" \
	bash -c "$limited" - 40000 "$maint" check "$work/large"

echo "the holder of a lock is named if it can be found out, and else the lock is"
coproc holder { exec qemu-io -f qcow2 "$image"; }
# It answers when it has the image open.
# shellcheck disable=SC2154 # set by coproc
pid=$holder_PID
# shellcheck disable=SC2154
echo length >&"${holder[1]}"
read -r <&"${holder[0]}"
ends_with 1 "in use by qemu-io (process $pid)" "$maint" snapshot create "$image" x
ends_with 1 "in use by another program" env LD_PRELOAD="$shim" LIVEBLK_STOP_READDIR=3 "$maint" snapshot create "$image" x
echo quit >&"${holder[1]}"
wait "$pid" || fail "qemu-io failed"

echo "closed standard streams: what is printed does not get into the image"
must cp "$image" "$work/closed"
for stream in 0 1 2; do
	for words in "check --repair leaks --json" "info" "snapshot list"; do
		# shellcheck disable=SC2086 # several words
		run bash -c "$one_closed" - $stream \
			"$maint" $words "$work/closed" || true
		cmp "$image" "$work/closed" || fail "changed by '$words' with stream $stream closed"
	done
done
must bash -c "$all_closed" - "$maint" snapshot create "$work/closed" one
must qemu-img check -q "$work/closed"
if "$maint" info "$image" >/dev/full 2>"$work/err"; then fail "nothing is said about output that is lost"; fi
grep -q "write to standard output" "$work/err" || fail "the wrong thing is said about output that is lost"

# Reading each table takes so long that all of it takes over a second.
export LIVEBLK_SLOW_READ=10000

on_terminal() { # WORD...
	local status=0
	SHELL=/bin/bash script -qec "LD_PRELOAD=$shim $(printf '%q ' "$maint" "$@")" "$work/typescript" \
		>"$work/out" 2>"$work/err" </dev/null || status=$?
	[ "$status" -eq 0 ] || fail "status $status on a terminal: $*"
	grep -qaE '[a-z ]+ \[#+ *\] +[0-9]+% [0-9.]+ [KMG]?i?B/s, [0-9]+ s left' "$work/typescript" || fail "no progress: $*"
	# After the last bar its line is cleared.
	tr '\r' '\n' <"$work/typescript" |
		awk '/B\/s, / { bar = NR } NR == bar + 1 { after = $0 } END { exit index(after, "\033[K") != 1 }' ||
		fail "the bar is left behind: $*"
}

in_pipe() { # WORD...
	must env LD_PRELOAD="$shim" "$maint" "$@"
	! grep -q 'B/s, ' "$work/out" "$work/err" || fail "progress without a terminal: $*"
}

echo "long work shows progress on a terminal, and none elsewhere"
on_terminal check "$image"
in_pipe check "$image"
on_terminal snapshot create "$image" one
in_pipe snapshot create "$image" two
on_terminal snapshot delete "$image" one
on_terminal snapshot revert "$image" two
in_pipe snapshot delete "$image" two
on_terminal resize --shrink "$image" 1M
