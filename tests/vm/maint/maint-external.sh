#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: a new image on top of a live device: what is frozen stays what it was and is read by QEMU; errors, kills and refusals
# needs: qemu-img qemu-io qemu-nbd dmsetup jq fio setsid mkfs.ext4
# timeout: 600
# mem: 2G
# cpus: 1
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/bitmaps.sh
. tests/lib/bitmaps.sh
# shellcheck source=tests/vm/maint/lib.sh
. tests/vm/maint/lib.sh

kills=4 full=false
if [ "${LIVEBLK_FULL:-0}" = 1 ]; then kills=60 full=true; fi
mib=1048576
model=/run/liveblk-model
mnt=/run/liveblk-external
writer=''
declare -A moment=() # of a frozen image, the disk's checksum
points=0

same() { cmp "$device" "$model" || lb_fail "the device is not what it should be: $*"; } # WHAT

# The same random bytes to the device and to what it should read as.
write_both() { # OFFSET BYTES, in KiB
	local file
	dd if=/dev/urandom of=/run/liveblk-chunk bs=1k count="$2" status=none
	for file in "$device" "$model"; do
		dd if=/run/liveblk-chunk of="$file" bs=64k seek=$(($1 * 1024)) oflag=seek_bytes conv=notrunc,fsync status=none
	done
}

layers() { dmsetup table "$name" | awk '{ print gsub(/ backing /, "") }'; }

# Puts an image on top of $top, which that becomes.
freeze() { # FILE OPTION...
	local count
	count=$(layers)
	"$maint" snapshot create "$name" --json --external "$@" >/run/liveblk-json 2>/run/liveblk-out ||
		{ cat /run/liveblk-out >&2; lb_fail "not put on top: $*"; }
	jq -e --arg frozen "$top" --arg top "$1" --arg name "$name" \
		'.frozen.filename == $frozen and .frozen.format == "qcow2" and .top.filename == $top and
		.device == $name and ."pause-ms" > 0' /run/liveblk-json >/dev/null || lb_fail "not said: $(cat /run/liveblk-json)"
	must_be_live "$1 on top"
	[ "$(layers)" = $((count + 1)) ] || lb_fail "not one layer more: $(dmsetup table "$name")"
	top=$1
}

# As QEMU reads it, with its own lock.
must_read_as() { # IMAGE MODEL
	must qemu-img convert -f qcow2 -O raw "$1" /run/liveblk-raw
	cmp /run/liveblk-raw "$2" || lb_fail "$1 is not what was there when it was frozen"
}

backing_name() { qemu-img info -U --output=json "$1" | jq -r '."backing-filename"'; }

start() { # IMAGE SIZE-MIB CREATE-OPTIONS: attached, with cache_kib, all zeros, and a model
	top=$1
	must qemu-img create -q -f qcow2 -o "$3" "$top" "$2M"
	lb_attach "$name" "$top" cache_kib 128
	truncate -s 0 "$model"
	truncate -s "$2M" "$model"
}

test_chain() {
	lb_step "three images on top, one after the other"
	local dir other i image
	dir=$(lb_scratch 300 xfs)
	other=$dir/other
	mkdir "$other"
	start "$dir/a:base" 16 cluster_size=64k
	chown 1234:4321 "$top"
	chmod 640 "$top"
	write_both 0 3000
	cp "$model" "$model.1"
	freeze "$dir/b one"
	[ "$(backing_name "$top")" = ./a:base ] || lb_fail "it names '$(backing_name "$top")'"
	[ "$(stat -c '%u:%g %a' "$top")" = '1234:4321 640' ] || lb_fail "it is for others: $(stat -c '%u:%g %a' "$top")"
	same "one on top"
	write_both 1030 70
	write_both 5110 40
	cp "$model" "$model.2"
	freeze "$other/c" --cluster-size 4k
	[ "$(backing_name "$top")" = "$dir/b one" ] || lb_fail "it names '$(backing_name "$top")'"
	[ "$(qemu-img info -U --output=json "$top" | jq '."cluster-size"')" = 4096 ] || lb_fail "other clusters"
	write_both 2001 333
	blkdiscard -o $((4 * mib)) -l $mib "$device"
	fallocate -p -o $((4 * mib)) -l $mib "$model"
	cp "$model" "$model.3"
	freeze "$other/d"
	[ "$(backing_name "$top")" = c ] || lb_fail "it names '$(backing_name "$top")'"
	write_both 900 900
	same "three on top"
	[ "$(dmsetup table "$name" | cut -d' ' -f 4-)" = \
		"$top 11 cache_kib 128 backing qcow2 $other/c backing qcow2 $dir/b\\ one backing qcow2 $dir/a:base" ] ||
		lb_fail "not its table: $(dmsetup table "$name")"
	[ "$(blockdev --getsize64 "$device")" = $((16 * mib)) ] || lb_fail "another size"

	lb_step "the frozen ones are read by QEMU, and written by nobody"
	i=0
	for image in "$dir/a:base" "$dir/b one" "$other/c"; do
		i=$((i + 1))
		must_read_as "$image" "$model.$i"
		must_fail "lock" qemu-io -f qcow2 -c "write 0 512" "$image"
		must_fail "in use by the live device $name, as a backing file" "$maint" snapshot create "$image" x
		must_fail "in use by the live device $name; name that" "$maint" snapshot create "$top" --external "$dir/x"
	done
	must "$maint" snapshot create "$name" internal
	must "$maint" resize "$name" +1M
	must "$maint" snapshot delete "$name" internal
	must "$maint" resize --shrink "$name" 16M
	same "maintained"

	lb_step "attached again by the names in the headers; and each that was frozen, by itself"
	must "$maint" detach "$name"
	for image in "$top" "$other/c" "$dir/b one" "$dir/a:base"; do lb_check "$image"; done
	must qemu-img compare -q -f qcow2 -F raw "$top" "$model"
	must "$maint" attach "$top" "$name"
	[ "$(layers)" = 3 ] || lb_fail "not its chain: $(dmsetup table "$name")"
	same "attached again"
	must "$maint" detach "$name"
	must "$maint" attach --read-only "$dir/b one" "$name"
	cmp "$device" "$model.2" || lb_fail "the disk as it was is not to be had"
	must "$maint" detach "$name"
	umount "$dir"
}

# One short verified run after the other, as fast as it goes.
write_and_verify() {
	local n=0
	until [ -e /run/liveblk-stop ]; do
		fio --minimal --name=live --filename="$device" --size=4m --rw=randwrite --bsrange=4k-32k --ioengine=libaio \
			--iodepth=8 --direct=1 --verify=crc32c --verify_fatal=1 --randseed=$((n += 1)) \
			>/run/liveblk-fio 2>&1 || { cat /run/liveblk-fio; return 1; }
	done
	echo "fio: $n verified runs"
}

checksum() { # IMAGE
	qemu-img convert -f qcow2 -O raw "$1" /run/liveblk-raw || lb_fail "cannot read $1"
	sha1sum </run/liveblk-raw
}

# Stopped while the device is suspended, so that the disk can be read in peace at that very moment.
freeze_kept() { # FILE LOAD
	hold_at "$2" snapshot create "$name" --external "$1"
	is_suspended || lb_fail "not suspended"
	moment[$top]=$(checksum "$top")
	let_go
	[ "$status" -eq 0 ] || { cat /run/liveblk-held >&2; lb_fail "ended with $status"; }
	must_be_live "$1 on top"
	top=$1
	# A backup of it, while there are writes.
	for image in "${!moment[@]}"; do
		[ "$(checksum "$image")" = "${moment[$image]}" ] || lb_fail "$image has changed since it was frozen"
	done
}

test_under_load() {
	lb_step "under a writer"
	local dir image i load
	dir=$(lb_scratch 300 xfs)
	rm -f /run/liveblk-stop
	start "$dir/0" 8 cluster_size=16k
	write_and_verify &
	writer=$!
	changes_of /run/liveblk-log snapshot create "$name" --external "$dir/1"
	top=$dir/1
	load=$(first_of /run/liveblk-log dm-load)
	for i in 2 3 4; do
		kill -0 "$writer" 2>/dev/null || lb_fail "the writer has ended"
		freeze_kept "$dir/$i" "$load"
	done
	touch /run/liveblk-stop
	wait "$writer" || lb_fail "wrong data or an error"
	[ "$(dmsetup status "$name" | cut -d' ' -f 9)" = 0 ] || lb_fail "I/O has failed: $(dmsetup status "$name")"
	cat "$device" >"$model"
	must "$maint" detach "$name"
	for image in "$dir"/?; do lb_check "$image"; done
	must qemu-img compare -q -f qcow2 -F raw "$top" "$model"
	umount "$dir"
}

# Of one file system that several parts use.
fresh_folder() {
	rm -rf "${ext4:?}"/*
	echo "$ext4"
}

test_block_device() {
	lb_step "an image on a block device"
	local dir disk
	dir=$(fresh_folder)
	disk=$(lb_ramdisk 64)
	start "$disk" 16 cluster_size=64k
	write_both 0 2000
	cp "$model" "$model.1"
	# By the name that it keeps.
	freeze "$dir/top"
	[ "$(backing_name "$top")" = "$disk" ] || lb_fail "it names '$(backing_name "$top")'"
	[ "$(stat -c '%u:%g %a' "$top")" = '0:0 600' ] || lb_fail "it is for others: $(stat -c '%u:%g %a' "$top")"
	write_both 1900 300
	same "on top of a block device"
	must_read_as "$disk" "$model.1"
	must "$maint" detach "$name"
	must "$maint" attach "$top" "$name"
	same "attached again"
	must "$maint" detach "$name"
	lb_check "$top"
	dmsetup remove "${disk##*/}"
}

test_bitmaps() {
	lb_step "what bitmaps have recorded until then is kept"
	local dir
	dir=$(fresh_folder)
	top=$dir/old
	must qemu-img create -q -f qcow2 "$top" 16M
	must qemu-img bitmap --add -g 64k "$top" monday
	must qemu-img bitmap --add --disable "$top" off
	must "$maint" attach "$top" "$name"
	dd if=/dev/urandom of="$device" bs=64k seek=3 count=2 oflag=direct status=none
	"$maint" snapshot create "$name" --external "$dir/new" >/run/liveblk-out || lb_fail "not put on top"
	grep -q "^The bitmap 'monday' stays in the frozen image and records no more" /run/liveblk-out ||
		lb_fail "nothing is said of the bitmap: $(cat /run/liveblk-out)"
	! grep -q "'off'" /run/liveblk-out || lb_fail "a bitmap that was off is said to stop"
	dd if=/dev/urandom of="$device" bs=64k seek=100 count=2 oflag=direct status=none
	[ "$("$maint" bitmap list --json "$name" | jq length)" = 0 ] || lb_fail "the new top has bitmaps"
	read_bitmap "$top" monday >/run/by-qemu
	[ "$(cat /run/by-qemu)" = "$((3 * 65536)) 131072" ] || lb_fail "QEMU reads in the bitmap: $(cat /run/by-qemu)"
	must "$maint" bitmap add "$name" tuesday
	must "$maint" snapshot create "$name" --json --external "$dir/newer"
	[ "$(jq -c .frozen.bitmaps /run/liveblk-out)" = '["tuesday"]' ] || lb_fail "not said: $(cat /run/liveblk-out)"
	must "$maint" detach "$name"
	lb_check "$dir/old"
}

# Nothing has changed, and it works.
as_before() { # WHAT
	must_be_live "$1"
	[ "$(layers)" = 0 ] || lb_fail "there is another image on top: $1"
	[ ! -e "$new" ] || lb_fail "the new image is left behind: $1"
	write_both 100 70
	same "$1"
}

test_refused() {
	lb_step "what cannot be done"
	local dir new
	dir=$(fresh_folder)
	new=$dir/new
	lb_image "$dir/offline" 16M
	must_fail "no live device.*'qemu-img create -f qcow2 -F qcow2 -b" "$maint" snapshot create "$dir/offline" --external "$new"
	start "$dir/image" 16 cluster_size=64k
	: >"$new"
	must_fail "create '$new': there is something of that name already" "$maint" snapshot create "$name" --external "$new"
	rm "$new"
	ln -s nothing "$new"
	must_fail "there is something of that name already" "$maint" snapshot create "$name" --external "$new"
	rm "$new"
	must_fail "there is something of that name already" "$maint" snapshot create "$name" --external "$top"
	must_fail "in the directory '$dir/none': No such file" "$maint" snapshot create "$name" --external "$dir/none/new"
	must_fail "a power of two from 4096 to 2097152, and not 2048" \
		"$maint" snapshot create "$name" --external "$new" --cluster-size 2k
	as_before "refused"
	mkfs.ext4 -q "$device"
	mkdir -p "$mnt"
	mount "$device" "$mnt"
	must_fail "its image '$mnt/new' is on the device itself" "$maint" snapshot create "$name" --external "$mnt/new"
	[ ! -e "$mnt/new" ] || lb_fail "left behind"
	umount "$mnt"
	lb_detach "$name"
	lb_attach "$name" "$top" read_only
	must_fail "attached read-only" "$maint" snapshot create "$name" --external "$new"
	lb_detach "$name"
	lb_attach "$name" "$top" no_lock
	must_fail "attached with no_lock" "$maint" snapshot create "$name" --external "$new"
	lb_detach "$name"
	lb_image "$dir/external" 16M -o "data_file=$dir/data"
	must "$maint" attach "$dir/external" "$name"
	must_fail "external data file, which dm-qcow2 does not support below" \
		"$maint" snapshot create "$name" --external "$new"
	lb_detach "$name"
	[ ! -e "$new" ] || lb_fail "left behind"
}

test_errors() {
	lb_step "errors leave the device as it was"
	local dir new small load resume pid
	dir=$(fresh_folder)
	small=$(lb_scratch 1 tmpfs)
	start "$dir/image" 16 cluster_size=64k
	new=$small/new
	head -c 900k /dev/zero >"$small/fill"
	must_fail "No space left" "$maint" snapshot create "$name" --external "$new"
	as_before "no space"
	umount "$small"

	new=$dir/new
	changes_of /run/liveblk-log snapshot create "$name" --external "$dir/trial"
	load=$(first_of /run/liveblk-log dm-load)
	resume=$(first_of /run/liveblk-log dm-resume)
	must "$maint" detach "$name"
	lb_attach "$name" "$top" cache_kib 128
	must_fail "load a table" env LD_PRELOAD="$shim" LIVEBLK_STOP_AT="$load" LIVEBLK_STOP_ONCE=1 \
		"$maint" snapshot create "$name" --external "$new"
	as_before "not loaded"
	hold_at "$load" snapshot create "$name" --external "$new"
	dd if=/dev/zero of="$new" bs=512 count=1 conv=notrunc status=none
	let_go
	[ "$status" -eq 1 ] || lb_fail "ended with $status"
	as_before "refused by the kernel"

	hold_at "$resume" snapshot create "$name" --external "$new"
	is_suspended || lb_fail "not suspended"
	qemu-io -f raw -c "sleep 100000" "$new" >/dev/null &
	pid=$!
	until grep -q "OFDLCK.*:$(stat -c %i "$new") " /proc/locks; do sleep 0.1; done
	let_go
	[ "$status" -eq 1 ] || lb_fail "ended with $status"
	grep -q "with '$new' on top: Device or resource busy, it is in use by qemu-io (process $pid)" /run/liveblk-held ||
		lb_fail "not said: $(cat /run/liveblk-held)"
	as_before "another program has the new image"
	kill "$pid"
	wait "$pid" || true
	[ "$(dmsetup table "$name" | cut -d' ' -f 5-)" = "2 cache_kib 128" ] || lb_fail "not its table: $(dmsetup table "$name")"
	must "$maint" detach "$name"
	lb_check "$top"
	must qemu-img compare -q -f qcow2 -F raw "$top" "$model"
}

# The old table or the new one, the guest's data, and a new file just for the latter; $left: it may be there all the same.
settled_with() { # WHAT
	must_be_live "$1"
	state=$(layers)
	[ "$(device_content)" = "$content" ] || lb_fail "the guest's data has changed: $1"
	case $state in
	0) $left || [ ! -e "$new" ] || lb_fail "the new image is left behind: $1" ;;
	1) [ -e "$new" ] || lb_fail "the new image is gone: $1" ;;
	esac
	must "$maint" detach "$name"
	lb_check "$image"
	[ "$state" = 0 ] || lb_check "$new"
	rm -f "$new"
	points=$((points + 1))
}

stopped() { # STATUS VARIABLE=VALUE...
	local wanted=$1 status=0
	shift
	fresh
	env LD_PRELOAD="$shim" "$@" setsid "$maint" snapshot create "$name" --external "$new" >/run/liveblk-out 2>&1 ||
		status=$?
	[ "$status" -eq "$wanted" ] || { cat /run/liveblk-out >&2; lb_fail "ended with $status instead of $wanted: $*"; }
}

# With its guardian, so that nobody is left to resume the device.
killed_at() { # K
	stopped 137 LIVEBLK_STOP_AT="$1" LIVEBLK_STOP_GROUP=1
	must "$maint" resume "$name"
	left=true
	settled_with "killed at $1"
}

# By the guardian, which takes the new file away after that.
wait_until_settled() {
	local tries
	for ((tries = 0; tries < 100; tries++)); do
		is_suspended || { [ -e "$new" ] && [ "$(layers)" = 0 ]; } || return 0
		! $left || is_suspended || return 0
		sleep 0.1
	done
}

# It alone: its guardian resumes the device, and takes the new file away. Before there is one, the file stays.
died_at() { # K
	stopped 99 LIVEBLK_STOP_AT="$1"
	left=false
	[ "$1" -ge "$suspend" ] || left=true
	wait_until_settled
	settled_with "died at $1"
}

failed_at() { # K
	local status=0
	fresh
	env LD_PRELOAD="$shim" LIVEBLK_STOP_AT="$1" LIVEBLK_STOP_ONCE=1 "$maint" snapshot create "$name" \
		--external "$new" >/run/liveblk-out 2>&1 || status=$?
	left=false
	settled_with "failed at $1"
	[ "$status-$state" = 0-1 ] || [ "$status-$state" = 1-0 ] || lb_fail "ended with $status, and $state: failed at $1"
}

interrupted_at() { # K SIGNAL
	fresh
	hold_at "$1" snapshot create "$name" --external "$new"
	kill -"$2" "$held"
	sleep 0.05
	let_go
	[ "$status" -eq $((128 + $(kill -l "$2"))) ] || lb_fail "SIG$2 at $1 has no effect: $status"
	left=false
	settled_with "SIG$2 at $1"
}

test_killed() {
	lb_step "killed, failed or interrupted at each step"
	local n k chosen new left suspend
	local some=(INT TERM HUP QUIT USR1 PIPE ALRM)
	make_base
	new=$dir/new.qcow2
	fresh
	changes_of /run/liveblk-log snapshot create "$name" --external "$new"
	left=false
	settled_with "not stopped"
	[ "$state" = 1 ] || lb_fail "not put on top"
	n=$(wc -l </run/liveblk-log)
	suspend=$(first_of /run/liveblk-log dm-suspend)
	[ "$n" -ge 6 ] || lb_fail "only $n changes were seen"
	# The short form does one of the four at each step, another one with each seed.
	for ((k = 1; k <= n; k++)); do
		chosen=$(((k + seed) % 4))
		if $full || [ $chosen -eq 0 ]; then killed_at "$k"; fi
		if $full || [ $chosen -eq 1 ]; then failed_at "$k"; fi
		if $full || [ $chosen -eq 2 ]; then interrupted_at "$k" "${some[k % ${#some[@]}]}"; fi
		if $full || [ $chosen -eq 3 ]; then died_at "$k"; fi
	done
	lb_step "killed at $kills random moments"
	for ((k = 0; k < kills; k++)); do
		fresh
		"$maint" snapshot create "$name" --external "$new" >/run/liveblk-out 2>&1 &
		held=$!
		random_below 500
		sleep "$(printf '0.%03d' "$REPLY")"
		kill -KILL "$held" 2>/dev/null || true
		wait "$held" 2>/dev/null || true
		left=true
		sleep 0.3
		wait_until_settled
		settled_with "killed at a random moment"
	done
	umount "$dir"
}

on_exit() {
	local status=$?
	touch /run/liveblk-stop
	return "$status"
}
trap on_exit EXIT

random_start
lb_load
ext4=$(lb_scratch 100 ext4)
test_chain
test_under_load
test_block_device
test_bitmaps
test_refused
test_errors
umount "$ext4"
test_killed
lb_unload
echo "$points points, no exception"
