#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: snapshots and growth under fio and a mounted ext4: no error, and each snapshot is what the disk was
# needs: qemu-img dmsetup fio jq mkfs.ext4 e2fsck resize2fs sha1sum
# timeout: 900
# mem: 3G
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/vm/maint/lib.sh
. tests/vm/maint/lib.sh

growths=5 in_a_row=1
if [ "${LIVEBLK_FULL:-0}" = 1 ]; then growths=100 in_a_row=6; fi
grown=0
mnt=/run/liveblk-live
pauses=/run/liveblk-pauses
load=''
declare -A moment=()  # of each kept snapshot, the disk's checksum
kept=()
plain=()              # snapshots that may go

checksum() { # IMAGE: of the disk as it is now
	qemu-img convert -U -f qcow2 -O raw "$1" "$dir/raw" || lb_fail "cannot read $1"
	echo "$(stat -c %s "$dir/raw") $(sha1sum <"$dir/raw" | cut -d' ' -f1)"
	rm "$dir/raw"
}

# One short verified run after the other, as fast as it goes.
write_and_verify() {
	local n=0
	while [ ! -e /run/liveblk-stop ]; do
		fio --minimal --name=live --directory="$mnt" --size=3m --rw=randrw --bsrange=4k-32k --ioengine=libaio \
			--iodepth=8 --direct=$((n % 2)) --fsync=16 --verify=crc32c --verify_fatal=1 --randseed=$((n += 1)) \
			>/run/liveblk-fio 2>&1 || { cat /run/liveblk-fio; return 1; }
	done
	echo "fio: $n verified runs"
}

# Files that come and go beside it.
churn() {
	local n
	for ((n = 0; ; n++)); do
		[ ! -e /run/liveblk-stop ] || return 0
		dd if=/dev/urandom of="$mnt/churn$((n % 7))" bs=64k count=$((n % 5 + 1)) status=none || return 1
		rm -f "$mnt/churn$(((n + 3) % 7))" || return 1
	done
}

timed() { # WORD...
	"$maint" "$@" --json >/run/liveblk-json 2>/run/liveblk-err || { cat /run/liveblk-err >&2; lb_fail "failed: $*"; }
	jq -e '."pause-ms"' </run/liveblk-json >>"$pauses" || lb_fail "no pause is told: $*"
	jq -e --arg name "$name" '.device == $name' </run/liveblk-json >/dev/null || lb_fail "no device is told: $*"
	must_be_live "$*"
}

# Stopped while the device is suspended, so that the disk can be read in peace at that very moment.
create_kept() { # NAME
	hold_at "$first_write" snapshot create "$device" "$1"
	is_suspended || lb_fail "not suspended while it is edited"
	moment[$1]=$(checksum "$image")
	let_go
	[ "$status" -eq 0 ] || { cat /run/liveblk-held >&2; lb_fail "ended with $status"; }
	must_be_live "snapshot create $1"
	kept+=("$1")
}

grow() {
	timed resize "$name" +1M
	resize2fs "$device" >/run/liveblk-out 2>&1 || { cat /run/liveblk-out >&2; lb_fail "resize2fs"; }
	grown=$((grown + 1))
}

# A write of the edit; what comes before are the commit and the suspend.
find_first_write() {
	changes_of /run/liveblk-log snapshot create "$name" trial
	first_write=$(first_of /run/liveblk-log pwrite)
	timed snapshot delete "$name" trial
}

operate() { # NUMBER
	local i
	case $(($1 % 6)) in
	0 | 3) timed snapshot create "$name" "plain$1"; plain+=("plain$1") ;;
	1) for ((i = 0; i < in_a_row; i++)); do grow; done ;;
	2) if [ $(($1 % 12)) -eq 2 ] || [ ${#kept[@]} -lt 3 ]; then create_kept "kept$1"; else grow; fi ;;
	4)
		timed snapshot delete "$device" "${plain[0]}"
		plain=("${plain[@]:1}") ;;
	5) timed snapshot rename "$name" "${plain[0]}" "renamed$1"; plain[0]=renamed$1 ;;
	esac
}

test_under_load() {
	local n pids
	write_and_verify &
	load=$!
	churn &
	pids=$!
	find_first_write
	for ((n = 0; grown < growths; n++)); do
		kill -0 "$load" 2>/dev/null || lb_fail "the load has ended"
		operate "$n"
	done
	touch /run/liveblk-stop
	wait "$load" || lb_fail "fio found wrong data or an error"
	wait "$pids" || lb_fail "files could not be written"
	echo "$n operations, grown $grown times, ${#kept[@]} snapshots kept and ${#plain[@]} others"
	[ "$(dmsetup status "$name" | cut -d' ' -f 9)" = 0 ] || lb_fail "I/O has failed: $(dmsetup status "$name")"
}

# The size of the disk is a part of its checksum.
test_moments() {
	local snapshot now
	for snapshot in "${kept[@]}"; do
		must "$maint" snapshot revert "$image" "$snapshot"
		now=$(checksum "$image")
		[ "$now" = "${moment[$snapshot]}" ] || lb_fail "$snapshot is $now, not ${moment[$snapshot]}"
		must "$maint" attach "$image" "$name" --read-only
		must e2fsck -fn "$device"
		must "$maint" detach "$name"
		lb_check "$image"
	done
}

on_exit() {
	local status=$?
	touch /run/liveblk-stop
	return "$status"
}
trap on_exit EXIT

lb_load
mkdir -p "$mnt"
dir=$(lb_scratch 600 ext4)
image="$dir/disk with a blank.qcow2"
lb_image "$image" 64M -o cluster_size=16k
must "$maint" attach "$image" "$name"
mkfs.ext4 -q -E nodiscard "$device"
mount "$device" "$mnt"

lb_step "until the device has been grown $growths times under load"
test_under_load

lb_step "the disk is sound"
"$maint" info "$name"
umount "$mnt"
must e2fsck -fn "$device"
must "$maint" check "$name"
must "$maint" detach "$name"
lb_check "$image"

lb_step "${#kept[@]} snapshots are what the disk was"
test_moments
sort -n "$pauses" | awk '{ p[NR] = $1 } END {
	printf "%d pauses: least %.1f ms, median %.1f ms, most %.1f ms\n", NR, p[1], p[int((NR + 1) / 2)], p[NR] }'
lb_unload
