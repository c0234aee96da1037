#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: stacks of interposers, splits, flushes, NOWAIT, polling, cgroups, an owner that dies, a target that is slow
# needs: dmsetup fio mkfs.ext4 e2fsck jq blkdiscard python3
# timeout: 500
# mem: 3G
# one-thread: yes
# disks: 256M 256M
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/interposer/lib.sh
. tests/vm/interposer/lib.sh
# shellcheck source=tests/vm/copy/lib.sh
. tests/vm/copy/lib.sh

linear() { # NAME DEVICE
	blk-interpose create "$1" --table "0 $(bi_sectors "$2") linear [interpose]$2 0"
}

verify() { # FILENAME [fio options...]
	local file=$1
	shift
	fio --name=verify --filename="$file" --size=16m --rw=randrw --bsrange=4k-1m --ioengine=io_uring --iodepth=16 \
		--direct=1 --verify=crc32c --verify_fatal=1 --number_ios="$(bi_count 40 20000)" --output="$lb_state/fio" "$@" || {
		tail -n 20 "$lb_state/fio"
		lb_fail "fio on $file: $*"
	}
}

test_nested() {
	lb_step "three interposers, each under the target of the one before"
	local a b c
	linear nest1 /dev/vda
	linear nest2 /dev/mapper/nest1
	linear nest3 /dev/mapper/nest2
	a=$(bi_written /dev/mapper/nest1) b=$(bi_written /dev/mapper/nest2) c=$(bi_written /dev/mapper/nest3)
	dd if=/dev/urandom of=/dev/vda bs=64k count=16 oflag=direct status=none
	for n in "$(($(bi_written /dev/mapper/nest1) - a))" "$(($(bi_written /dev/mapper/nest2) - b))" \
		"$(($(bi_written /dev/mapper/nest3) - c))"; do
		[ "$n" = 2048 ] || lb_fail "one of three layers has seen $n of 2048 sectors"
	done
	verify /dev/vda
	# From the middle outwards would need the outer ones gone.
	blk-interpose remove nest3
	blk-interpose remove nest2
	blk-interpose remove nest1
	bi_none_left
}

test_bio_based() {
	lb_step "an original without requests, which splits"
	local ram size i pid inflight before
	ram=$(lb_ramdisk 64)
	size=$(bi_sectors "$ram")
	# Stripes of 8 KiB over one disk: everything larger is split in pieces.
	dmsetup create striped --table "0 $size striped 1 16 $ram 0"
	before=$(bi_reads)
	fio --name=split --filename=/dev/mapper/striped --size=16m --rw=randrw --bsrange=4k-1m --ioengine=io_uring \
		--iodepth=16 --direct=1 --verify=crc32c --verify_fatal=1 --time_based --runtime=3600 --output="$lb_state/fio" &
	pid=$!
	bi_await_fio "$pid" "$before"
	for ((i = 0; i < $(bi_count 3 100); i++)); do
		linear bio0 /dev/mapper/striped
		blk-interpose remove bio0
		# What the module has let go of may not need it any more.
		lb_unload_interposer
		lb_load_interposer
	done
	bi_end_fio "$pid"
	inflight=$(bi_inflight /dev/mapper/striped)
	[ "$inflight" = 0 ] || lb_fail "$inflight requests are in flight for ever"
	dmsetup remove striped
	bi_none_left
}

# dm-delay counts a bio only when it sends it on; device-mapper has to be asked.
test_inflight() {
	lb_step "a write in flight below an original of device-mapper is waited for"
	local ram begun
	ram=$(lb_ramdisk 16)
	dmsetup create late --table "0 $(bi_sectors "$ram") delay $ram 0 0 $ram 0 4000"
	begun=$(cut -d. -f1 /proc/uptime)
	dd if=/dev/urandom of=/dev/mapper/late bs=4k count=1 oflag=direct status=none &
	sleep 0.5
	linear top /dev/mapper/late
	(($(cut -d. -f1 /proc/uptime) - begun >= 3)) || lb_fail "attached while the write was under way"
	wait $! || lb_fail "the write has failed"
	blk-interpose remove top
	dmsetup remove late
	bi_none_left
}

# Others at the same function, which makes ftrace take another way to each of them.
test_traced() {
	lb_step "beside a tracer and a probe"
	local trace=/sys/kernel/tracing before after
	mountpoint -q "$trace" || mount -t tracefs none "$trace"
	linear top /dev/vda
	for what in tracer both none; do
		case $what in
		tracer)
			echo submit_bio_noacct >"$trace/set_ftrace_filter"
			echo function >"$trace/current_tracer" ;;
		both)
			echo 'p:probed submit_bio_noacct' >"$trace/kprobe_events"
			echo 1 >"$trace/events/kprobes/probed/enable" ;;
		none)
			echo 0 >"$trace/events/kprobes/probed/enable"
			echo >"$trace/kprobe_events"
			echo nop >"$trace/current_tracer" ;;
		esac
		before=$(bi_written /dev/mapper/top)
		dd if=/dev/urandom of=/dev/vda bs=64k count=4 oflag=direct status=none
		after=$(bi_written /dev/mapper/top)
		[ "$((after - before))" = 512 ] || lb_fail "$what: of 512 sectors $((after - before)) went through the target"
	done
	blk-interpose remove top
	bi_none_left
}

# What has arrived at the original, in its order: SECTOR:FLAGS of each write (2: FUA), F for a flush. FUA of our own
# attach and detach are elsewhere, and flushes in a row count as one.
logged() { # LOG-DEVICE SECTOR...
	python3 - "$@" <<-'E'
		import struct, sys
		log, wanted = open(sys.argv[1], "rb"), [int(s) for s in sys.argv[2:]]
		_, _, entries, sector_size = struct.unpack("<QQQI", log.read(28))
		at, seen = sector_size, []
		for _ in range(entries):
		    log.seek(at)
		    sector, sectors, flags, _ = struct.unpack("<QQQQ", log.read(32))
		    at += sector_size + (0 if flags & 4 else sectors * 512)
		    if not sectors and flags & 1:
		        what = "F"
		    elif sector in wanted:
		        what = f"{sector}:{flags & 3}"
		    else:
		        continue
		    if seen or what != "F":
		        seen += [what] if what != "F" or seen[-1] != "F" else []
		print(*seen)
	E
}

# Through a target and past it. The log is below: it is the original.
test_flush() {
	local target seen
	modprobe dm-log-writes || lb_fail "no dm-log-writes"
	for target in linear none; do
		lb_step "PREFLUSH and FUA arrive at the original, each as itself: $target"
		dmsetup create logged --table "0 $(bi_sectors /dev/vda) log-writes /dev/vda /dev/vdb"
		[ "$target" = none ] || linear top /dev/mapper/logged
		dd if=/dev/urandom of=/dev/mapper/logged bs=4k count=3 seek=8 oflag=direct,dsync status=none
		dd if=/dev/urandom of=/dev/mapper/logged bs=4k count=1 seek=32 oflag=direct conv=fsync status=none
		[ "$target" = none ] || blk-interpose remove top
		dmsetup remove logged
		seen=$(logged /dev/vdb 64 72 80 256)
		[ "$seen" = "64:2 F 72:2 F 80:2 F 256:0 F" ] || lb_fail "what has arrived is $seen"
	done
	bi_none_left
}

# Under /dev/vda, with a delay of each kind: read, write, flush. Sets id.
slow_up() { # MILLISECONDS MILLISECONDS MILLISECONDS
	local lower
	read -r id lower < <(interposer-call create /dev/vda)
	dmsetup create slow0 --table "0 $(bi_sectors /dev/vda) delay $lower 0 $1 $lower 0 $2 $lower 0 $3"
	interposer-call attach "$id" /dev/mapper/slow0 10000
}

# HELD: for how many ms the detach has held I/O back.
slow_down() { # HELD AT-LEAST
	dmsetup remove slow0
	interposer-call destroy "$id"
	bi_none_left
	[ "$1" -ge "$2" ] || lb_fail "detached while the target had something yet: I/O was held back for $1 ms"
}

test_flush_in_flight() {
	lb_step "a flush that the target has is waited for"
	local id held
	slow_up 0 0 3000
	sync /dev/vda &
	sleep 0.3
	held=$(interposer-call detach "$id" 30000)
	wait $!
	slow_down "$held" 1000
}

# The second read comes while the gate is closed for the first, is let through when that takes too long, and has to be
# waited for like the first, which ends sooner: for 2 s, and after 1 s for the rest, which is less than 1 s of the first.
test_released_in_flight() {
	lb_step "what has waited at the gate and is with the target now is waited for"
	local id held
	slow_up 4000 0 0
	held=$(python3 - "$id" <<-'E'
		import mmap, os, subprocess, sys, threading, time
		disk = os.open("/dev/vda", os.O_RDONLY | os.O_DIRECT)
		def read(at):
		    os.preadv(disk, [mmap.mmap(-1, 4096)], at)
		first, second = (threading.Thread(target=read, args=[at]) for at in (0, 32768))
		first.start()
		time.sleep(0.2)
		detach = subprocess.Popen(["interposer-call", "detach", sys.argv[1], "30000"])
		time.sleep(1)
		second.start()
		first.join(), second.join()
		sys.exit(detach.wait())
	E
	) || lb_fail "not detached"
	slow_down "$held" 3400
}

# The discard is for two disks. That for the original is past the hook before there is one, and waits in the hands of
# its submitter, who sleeps in the queue of the other disk.
test_submitter() {
	lb_step "who has something for the original in hand is waited for"
	local slow begun
	cp_load null-copy
	slow=$(cp_null slow size=64 hw_queue_depth=1 submit_queues=1)
	echo none >"/sys/block/${slow#/dev/}/queue/scheduler"
	cp_fault slow "read 0 4096 delay 4000000"
	dmsetup create both --table "0 131072 striped 2 128 $slow 0 /dev/vda 0"
	dd if="$slow" of=/dev/null bs=4k count=1 iflag=direct status=none &
	sleep 0.3
	blkdiscard -l 1M /dev/mapper/both &
	sleep 0.3
	begun=$(date +%s%N)
	linear top /dev/vda
	begun=$((($(date +%s%N) - begun) / 1000000))
	wait
	((begun >= 2000)) || lb_fail "attached after $begun ms, with a discard under way past the target"
	blk-interpose remove top
	dmsetup remove both
	cp_null_remove slow
	cp_unload null-copy
	bi_none_left
}

test_nowait_and_polling() {
	lb_step "NOWAIT, and polled I/O"
	linear nw0 /dev/vda
	verify /dev/vda --nowait=1
	verify /dev/vda --hipri
	blk-interpose remove nw0
	# dm-delay cannot promise not to wait: EAGAIN, and io_uring tries again by a worker.
	blk-interpose create nw0 --table "0 $(bi_sectors /dev/vda) delay [interpose]/dev/vda 0 1"
	fio --name=nw --filename=/dev/vda --size=1m --rw=randread --bs=4k --ioengine=io_uring --direct=1 --iodepth=4 \
		--number_ios=50 --output="$lb_state/fio" || lb_fail "reads that may wait after all have failed"
	blk-interpose remove nw0
}

# The file system knows what the original can; a target that cannot says so, and others zero by writing.
test_zeroing() {
	lb_step "zeroes and discards, for a target without"
	modprobe dm-snapshot
	dd if=/dev/urandom of=/dev/vda bs=64k count=16 oflag=direct status=none
	blk-interpose create origin --table "0 $(bi_sectors /dev/vda) snapshot-origin [interpose]/dev/vda"
	blkdiscard -z -l 1M /dev/vda || lb_fail "zeroing has failed"
	cmp -n $((1 << 20)) /dev/vda /dev/zero || lb_fail "not all is zero"
	blkdiscard -l 1M /dev/vda 2>"$lb_state/discard" || grep -q "not supported" "$lb_state/discard" ||
		lb_fail "a discard fails with $(<"$lb_state/discard")"
	blk-interpose remove origin
	blkdiscard -l 1M /dev/vda || lb_fail "the disk itself does not discard"
	bi_none_left
}

test_cgroup() {
	lb_step "I/O counts for the cgroup that it is of"
	local group=/sys/fs/cgroup/interposed device bytes
	mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup || lb_fail "no cgroups"
	if ! grep -qw io /sys/fs/cgroup/cgroup.controllers; then
		bi_lacks "I/O controller for cgroups"
		return
	fi
	echo +io >/sys/fs/cgroup/cgroup.subtree_control
	mkdir -p "$group"
	linear cg0 /dev/vda
	device=$(cat /sys/block/vda/dev)
	# shellcheck disable=SC2016 # expanded by the other shell
	bash -c 'echo $$ >"$1"; exec dd if=/dev/vda of=/dev/null bs=64k count=32 iflag=direct status=none' - \
		"$group/cgroup.procs"
	bytes=$(awk -v d="$device" '$1 == d { for (i = 2; i <= NF; i++) if (split($i, f, "=") && f[1] == "rbytes") print f[2] }' \
		"$group/io.stat")
	[ "${bytes:-0}" = 2097152 ] || lb_fail "the group has read 2097152 bytes, and $device counts ${bytes:-none}: $(cat "$group/io.stat")"
	blk-interpose remove cg0
	rmdir "$group"
}

test_owner() {
	lb_step "what a dead owner leaves: nothing"
	local i
	bi_mkfs ext4 /dev/vda
	mount /dev/vda "$bi_mnt"
	bi_start_load "$bi_mnt"
	interposer-owner /dev/vda owned0 &
	await_state active
	kill -KILL $!
	wait $! || true
	for i in {1..100}; do
		[ "$(blk-interpose list --json)" != "[]" ] || break
		sleep 0.1
	done
	bi_none_left
	dmsetup remove owned0
	bi_stop_load
	umount "$bi_mnt"
	bi_fsck ext4 /dev/vda
}

test_timeout() {
	lb_step "a target that does not answer: everything is put back"
	blk-interpose create slow0 --table "0 $(bi_sectors /dev/vda) linear [interpose]/dev/vda 0"
	dmsetup suspend slow0
	dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct status=none &
	local reader=$!
	sleep 0.5
	must_fail "wait for redirected I/O: .*timed out" interposer-owner --detach /dev/vda 1000
	kill -0 "$reader" || lb_fail "the read is done, though its target is suspended"
	dmsetup resume slow0
	wait "$reader" || lb_fail "the read has failed"
	blk-interpose remove slow0
	bi_none_left
}

await_state() { # STATE
	local _
	for _ in {1..100}; do
		! blk-interpose list | grep -q "$1" || return 0
		sleep 0.1
	done
	lb_fail "the pair does not become $1: $(blk-interpose list)"
}

# The first attempt to detach NAME for its owner fails; what OPTION does is done before the next one.
orphan_slow() { # NAME OPTION
	interposer-owner /dev/vda "$1" &
	local owner=$! reader heir
	await_state active
	dmsetup suspend "$1"
	dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct status=none &
	reader=$!
	interposer-owner "$2" /dev/vda "$1" &
	heir=$!
	sleep 0.5
	kill -KILL "$owner"
	wait "$owner" || true
	kill -0 "$reader" || lb_fail "the read is done, though its target is suspended"
	wait "$reader" || lb_fail "the read has failed"
	wait "$heir" || lb_fail "interposer-owner $2 has failed"
}

test_adopted() {
	lb_step "a dead owner with a slow target: whoever makes the pair theirs has it"
	orphan_slow owned1 --adopt
	sleep 6
	blk-interpose list | grep -q active || lb_fail "it was detached from its new owner: $(blk-interpose list)"
	blk-interpose remove owned1
	bi_none_left
}

test_unloaded() {
	lb_step "a dead owner with a slow target: unloaded before the next attempt"
	orphan_slow owned2 --end
	lb_unload_interposer
	sleep 4
	lb_load_interposer
}

lb_load_interposer
test_nested
test_bio_based
test_inflight
test_submitter
test_flush_in_flight
test_released_in_flight
test_traced
test_flush
test_nowait_and_polling
test_zeroing
test_cgroup
test_timeout
test_owner
test_adopted
test_unloaded
lb_unload_interposer
