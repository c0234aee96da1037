#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: blk-copy from program to driver and back: offloaded, emulated, refused; page caches; attributes
# needs: jq dmsetup mkfs.minix blkdiscard python3
# cpus: 1
# timeout: 200
# debug: yes
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/copy/lib.sh
. tests/vm/copy/lib.sh

# Below these releases a program may write through the page cache beside a copy.
test_kernels() {
	lb_step "kernels that blk-copy refuses"
	local ko version built running text wanted got
	ko=$LIVEBLK_BUILD/modules/$(uname -r)/tests/copy-old-kernel.ko
	while IFS=';' read -r built running text wanted; do
		mark_log
		read -r -a version <<<"${built//./ }"
		got=loads
		insmod "$ko" force=1 major="${version[0]}" minor="${version[1]}" sublevel="${version[2]}" running="$running" \
			text="\"$text\"" 2>/run/insmod || got=refused
		[ "$got" = "$wanted" ] || lb_fail "built for $built, on $running '$text': $got"
		if [ "$got" = loads ]; then
			rmmod copy-old-kernel
		else
			grep -q "not supported" /run/insmod || lb_fail "$(cat /run/insmod)"
			must_be_logged "blk-copy: Linux .* does not keep programs from writing"
		fi
	done <<-'E'
		6.1.158;6.1.158;#1 SMP;refused
		6.1.159;6.1.159;#1 SMP;loads
		6.1.192;6.1.0-57-amd64;#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-3 (2026-11-01);loads
		6.1.192;6.1.0-20-amd64;#1 SMP PREEMPT_DYNAMIC Debian 6.1.85-1 (2024-04-11);refused
		6.1.192;6.1.0-custom;#1 SMP;loads
		6.1.300;6.1.300;#1 SMP;loads
		6.6.90;6.6.90;#1 SMP;refused
		6.12.30;6.12.30;#1 SMP;refused
		6.12.31;6.12.31;#1 SMP;loads
		6.12.117;6.12.12+deb12-amd64;#1 SMP;refused
		6.14.0;6.14.0;#1 SMP;refused
		6.15.0;6.15.0;#1 SMP;loads
	E
}

test_offload() {
	lb_step "a copy by the driver"
	cp_fill "$disk" 0 $((4 * mib))
	blk-copy "$disk" "$disk:16m" 4m
	cp_same "$disk" 0 "$disk" $((16 * mib)) $((4 * mib))
	[ "$(cp_attr "$disk" offloaded)" = $((4 * mib)) ] || lb_fail "offloaded is $(cp_attr "$disk" offloaded)"
	[ "$(cp_attr "$disk" emulated)" = 0 ] || lb_fail "emulated is $(cp_attr "$disk" emulated)"
	# A hole stays a hole.
	before=$(cat /sys/kernel/config/null-copy/smoke/memory)
	blk-copy "$disk:32m" "$disk:16m" 4m
	after=$(cat /sys/kernel/config/null-copy/smoke/memory)
	((before - after == 4 * mib)) || lb_fail "a copied hole took $((after - before)) bytes"
	# One sector, between others.
	blk-copy "$disk:512" "$disk:1537k" 512
	cp_same "$disk" 512 "$disk" $((1537 * 1024)) 512
}

test_page_cache() {
	lb_step "page caches of both sides"
	dd if=/dev/urandom of="$disk" bs=64k count=16 conv=notrunc status=none
	dd if="$disk" of=/dev/null bs=64k skip=$((8 * mib))B count=16 status=none
	blk-copy "$disk" "$disk:8m" 1m
	[ "$(cp_sum "$disk" 0 $mib "")" = "$(cp_sum "$disk" $((8 * mib)) $mib "")" ] || lb_fail "through the cache it is another"
	cp_same "$disk" 0 "$disk" $((8 * mib)) $mib
}

# A buffer of the page cache is larger than a block: who writes the block beside a copy must not put back the rest of it.
test_neighbours() {
	lb_step "a program writes through the cache beside a copy"
	local copier
	cp_fill "$disk" $((32 * mib)) $mib
	dd if=/dev/urandom of="$disk" bs=64k count=16 oflag=direct conv=notrunc status=none
	cp_fault smoke "read $((32 * mib)) $mib delay 2000000"
	blk-copy --emulate=always "$disk:33554944" "$disk:512" $((mib - 512)) &
	copier=$!
	sleep 0.7
	dd if=/dev/zero of="$disk" bs=512 count=1 conv=notrunc status=none
	wait "$copier"
	sync "$disk"
	cp_fault smoke clear
	cp_same "$disk" $((32 * mib + 512)) "$disk" 512 $((mib - 512))
	[ "$(cp_sum "$disk" 0 512)" = "$(head -c 512 /dev/zero | sha256sum)" ] || lb_fail "what was written beside it is lost"
}

# Whoever has mapped the destination and comes to it in the middle of the copy waits for the end, and finds what was
# copied. What is read there before that is written back over it later: writes take their time here, reads do not.
test_mapped() {
	lb_step "a program writes to memory mapped from the destination in the middle of a copy"
	local under late=/dev/mapper/late
	modprobe dm-delay || lb_fail "no dm-delay"
	under=$(cp_null under size=8)
	cp_fill "$disk" 0 65536
	cp_fill "$under" 0 65536
	dmsetup create late --table "0 16384 delay $under 0 0 $under 0 3000"
	python3 - "$disk" "$late" <<-'E' || lb_fail "the copy has failed"
		import mmap, os, subprocess, sys, time
		source, late = sys.argv[1:]
		memory = mmap.mmap(os.open(late, os.O_RDWR), 65536)
		# Reads, writes and flushes that are held back.
		held = lambda: subprocess.check_output(["dmsetup", "status", "late"]).split()[3:6]
		copier = subprocess.Popen(["blk-copy", "--emulate=always", source, late, "64k"])
		while held()[1] == b"0":
		    assert copier.poll() is None, "the copy is over"
		    time.sleep(0.01)
		memory[40960:41472] = bytes(512)
		memory.flush()
		sys.exit(copier.wait())
	E
	cp_same "$disk" 0 "$late" 0 40960
	cp_same "$disk" 41472 "$late" 41472 $((65536 - 41472))
	[ "$(cp_sum "$late" 40960 512)" = "$(head -c 512 /dev/zero | sha256sum)" ] || lb_fail "what was written is lost"
	dmsetup remove late
	cp_null_remove under
}

# Buffers of a file system that was there are held for a while, and the cache with them, as long as somebody has it open.
test_lingering() {
	lb_step "over what was a file system a moment ago"
	modprobe minix || lb_fail "no minix"
	mkdir -p /run/lingering
	exec 9<"$disk"
	mkfs.minix "$disk" >/dev/null
	mount -t minix "$disk" /run/lingering
	ls -lR /run/lingering >/dev/null
	umount /run/lingering
	blk-copy "$disk:32m" "$disk" 16m
	exec 9<&-
	cp_same "$disk" $((32 * mib)) "$disk" 0 $((16 * mib))
}

# Who waits for the cache of the destination can be killed.
test_kill_waiting() {
	lb_step "a copy that waits for another is killed"
	local first second began
	cp_fault smoke "copy 0 $mib delay 4000000"
	blk-copy "$disk" "$disk:8m" 1m &
	first=$!
	sleep 0.5
	blk-copy "$disk:4m" "$disk:12m" 1m &
	second=$!
	sleep 0.5
	began=$(cut -d. -f1 /proc/uptime)
	kill -KILL "$second"
	wait "$second" 2>/dev/null || true
	(($(cut -d. -f1 /proc/uptime) - began < 2)) || lb_fail "it could not be killed"
	kill -0 "$first" || lb_fail "the other one was not slow"
	wait "$first"
	cp_fault smoke clear
}

# A copy that has got into the module. Sets copier.
begin_copy() {
	local tries=0
	blk-copy --json "$disk" "$disk:8m" 1m >/run/interrupted 2>&1 &
	copier=$!
	until grep -q blk_copy "/proc/$copier/stack" 2>/dev/null; do
		((++tries < 200)) || lb_fail "no copy is under way: $(</run/interrupted)"
		sleep 0.05
	done
}

interrupted_copy() { # HOW: interrupts the copy
	begin_copy
	"$@"
	wait "$copier" || lb_fail "$*: $(</run/interrupted)"
	[ "$(jq .bytes /run/interrupted)" = "$mib" ] || lb_fail "$*: $(</run/interrupted)"
	cp_same "$disk" 0 "$disk" $((8 * mib)) "$mib"
}
by_freezing() {
	local group=/run/cgroup/frozen tries=0
	echo "$copier" >$group/cgroup.procs
	echo 1 >$group/cgroup.freeze
	until grep -q "frozen 1" $group/cgroup.events; do
		((++tries < 100)) || lb_fail "it cannot be frozen"
		sleep 0.1
	done
	echo 0 >$group/cgroup.freeze
}
by_stopping() {
	kill -STOP "$copier"
	sleep 0.5
	kill -CONT "$copier"
}

# What ends the call is not always a signal to the program.
test_interrupted() {
	lb_step "a copy goes on after it was frozen, and after it was stopped"
	local copier pieces
	mkdir -p /run/cgroup
	mount -t cgroup2 none /run/cgroup
	mkdir /run/cgroup/frozen
	cp_fill "$disk" 0 "$mib"
	# Four pieces: one that has begun is ended.
	pieces=$(cp_attr "$disk" max_bytes)
	echo $((mib / 4)) >"/sys/block/${disk#/dev/}/copy/max_bytes"
	cp_fault smoke "copy 0 $mib delay 700000"
	interrupted_copy by_freezing
	interrupted_copy by_stopping
	# A signal is final.
	begin_copy
	kill -INT "$copier"
	! wait "$copier" || lb_fail "a signal did not interrupt it"
	grep -q "interrupted; [0-9]* of $mib bytes" /run/interrupted || lb_fail "$(</run/interrupted)"
	cp_fault smoke clear
	echo "$pieces" >"/sys/block/${disk#/dev/}/copy/max_bytes"
	rmdir /run/cgroup/frozen
	umount /run/cgroup
}

test_large() {
	lb_step "a discard of a TiB with little in it, and what is too much"
	local large
	large=$(cp_null large size=1048576)
	cp_fill "$large" $((mib - 512)) 1536
	cp_fill "$large" $((mib << 19)) 65536
	timeout 20 blkdiscard -o 512 -l $(((mib << 20) - 1024)) "$large" || lb_fail "it takes as long as the disk is large"
	[ "$(cat /sys/kernel/config/null-copy/large/memory)" = 0 ] || lb_fail "$(cat /sys/kernel/config/null-copy/large/memory) bytes are left"
	must_fail "Invalid argument" tee /sys/kernel/config/null-copy/large/faults <<<"any 18446744073709551615 2 fail"
	must_fail "Invalid argument" tee /sys/kernel/config/null-copy/large/faults <<<"any 0 512 fail 0"
	must_fail "Invalid argument" tee /sys/kernel/config/null-copy/large/faults <<<"any 0 512 fail often"
	must_fail "out of range" tee /sys/kernel/config/null-copy/large/faults <<<"any 0 512 delay 18446744073709551"
	cp_null_remove large
	must_fail "Invalid argument" blk-copy null create many size=$((1 << 40)) zoned=1 zone_size=1
}

test_emulation() {
	lb_step "reading and writing only when asked for"
	local before
	before=$(cp_attr "$disk" emulated)
	echo 0 >"/sys/block/${disk#/dev/}/copy/max_bytes"
	must_fail "no driver copies" blk-copy "$disk" "$disk:16m" 4m
	json=$(blk-copy --emulate=auto --json "$disk" "$disk:16m" 4m)
	[ "$(jq -c '[.bytes, .offloaded, .complete]' <<<"$json")" = "[4194304,0,true]" ] || lb_fail "$json"
	cp_same "$disk" 0 "$disk" $((16 * mib)) $((4 * mib))
	cat "/sys/block/${disk#/dev/}/copy/max_hw_bytes" >"/sys/block/${disk#/dev/}/copy/max_bytes"
	blk-copy --emulate=always "$disk" "$disk:24m" 4m
	[ "$(cp_attr "$disk" emulated)" = $((before + 8 * mib)) ] || lb_fail "emulated is $(cp_attr "$disk" emulated), was $before"
	# To and from a disk whose driver knows nothing of copies.
	ram=$(lb_ramdisk 8)
	must_fail "no driver copies" blk-copy "$disk" "$ram" 8m
	blk-copy --emulate=auto "$disk" "$ram" 8m
	cp_same "$disk" 0 "$ram" 0 $((8 * mib))
	blk-copy --emulate=auto "$ram" "$disk:40m"
	cp_same "$disk" $((40 * mib)) "$ram" 0 $((8 * mib))
}

# A source that does not answer holds up nobody but the copy.
test_slow_source() {
	lb_step "a slow source and readers of the destination"
	local slow copier began
	slow=$(cp_null slow size=64)
	cp_fill "$slow" 0 $mib
	cp_fault slow "read 0 $mib delay 5000000"
	blk-copy --emulate=always "$slow" "$disk:8m" 1m &
	copier=$!
	sleep 1
	began=$(cut -d. -f1 /proc/uptime)
	dd if="$disk" of=/dev/null bs=4k skip=12000 count=1 status=none
	(($(cut -d. -f1 /proc/uptime) - began < 3)) || lb_fail "a read took $(($(cut -d. -f1 /proc/uptime) - began)) s"
	kill -0 "$copier" 2>/dev/null || lb_fail "the copy was over before"
	wait "$copier"
	cp_fault slow clear
	cp_same "$slow" 0 "$disk" $((8 * mib)) $mib
	cp_null_remove slow
}

test_refusals() {
	lb_step "what is refused"
	must_fail "overlap" blk-copy "$disk" "$disk:1m" 2m
	must_fail "multiples" blk-copy "$disk:1" "$disk:1m" 512
	must_fail "ends at" blk-copy "$disk" "$disk:63m" 2m
	must_fail "nothing to copy" blk-copy "$disk:64m" "$disk"
	must_fail "no block device" blk-copy /etc/passwd "$disk"
	must_fail "SRC and DST" blk-copy "$disk"
	dmsetup create busy --table "0 2048 linear $disk 0"
	must_fail "in use" blk-copy "$disk:8m" "$disk:16m" 1m
	dmsetup remove busy
	blockdev --setro "$disk"
	must_fail "read-only|not permitted|Permission" blk-copy "$disk:8m" "$disk:16m" 1m
	blockdev --setrw "$disk"
}

cp_load null-copy
modprobe dm-mod
test_kernels
disk=$(cp_null smoke size=64)
test_offload
test_page_cache
test_neighbours
test_mapped
if [ -e /sys/kernel/debug/kmemleak ]; then
	lb_part_skipped "the debug kernels have no minix: a page cache that lingers"
else
	test_lingering
fi
test_kill_waiting
test_interrupted
test_large
test_emulation
test_slow_source
test_refusals
lb_step "removal"
must_fail "in use" rmmod blk-copy
cp_null_remove smoke
[ ! -e "$disk" ] || lb_fail "$disk is still there"
dmsetup remove lb-ram0
cp_unload null-copy
