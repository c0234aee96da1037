#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: what a worker does for a bio has its flags, its priority and its control group; commits are metadata
# needs: qemu-img qemu-io dmsetup ionice
# timeout: 600
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh

name=sub0
device=/dev/mapper/$name
mib=1048576
tracing=/sys/kernel/tracing
groups=/sys/fs/cgroup
# Bits of struct bio's bi_opf, the same in all kernels that are supported; bi_ioprio of the first class, level 3.
sync=$((1 << 11)) meta=$((1 << 12)) idle=$((1 << 15))
first_class=$(((1 << 13) | 3))

# What arrives at the RAM disk: the fields of struct bio, by their offsets.
trace_begin() {
	echo 0 >"$tracing/tracing_on"
	echo >"$tracing/trace"
	[ -e "$tracing/events/lb/below" ] || echo 'p:lb/below brd_submit_bio opf=+16(%di):u32 prio=+22(%di):u16 size=+40(%di):u32' \
		>"$tracing/kprobe_events"
	echo 1 >"$tracing/events/lb/below/enable"
	echo 1 >"$tracing/tracing_on"
}

# Prints "OPF PRIO SIZE" of each write with data since trace_begin.
trace_writes() {
	echo 0 >"$tracing/tracing_on"
	sed -n 's/.* below: .* opf=\([0-9]*\) prio=\([0-9]*\) size=\([0-9]*\).*/\1 \2 \3/p' "$tracing/trace" |
		while read -r opf prio size; do
			[ $((opf & 255)) != 1 ] || [ "$size" = 0 ] || echo "$opf $prio $size"
		done
}

# Each of the writes since trace_begin that are data, which are large and not marked as metadata, is as demanded.
must_be_data() { # WHAT FLAGS PRIORITY BYTES
	local opf prio size bytes=0
	while read -r opf prio size; do
		((size >= 32768 && !(opf & meta))) || continue
		bytes=$((bytes + size))
		[ $((opf & (sync | idle))) = "$2" ] ||
			lb_fail "$1: a write of $size bytes has the flags $(printf %#x "$opf")"
		[ "$3" = any ] || [ "$prio" = "$3" ] || lb_fail "$1: a write of $size bytes has the priority $(printf %#x "$prio")"
	done < <(trace_writes)
	[ "$bytes" -ge "$4" ] || lb_fail "$1: only $bytes bytes of data were seen"
	echo "$1: $bytes bytes as they should be"
}

must_be_metadata() { # WHAT
	local opf prio size number=0
	while read -r opf prio size; do
		number=$((number + 1))
		[ $((opf & (sync | meta))) = $((sync | meta)) ] ||
			lb_fail "$1: a write of $size bytes has the flags $(printf %#x "$opf")"
	done < <(trace_writes)
	[ "$number" -gt 0 ] || lb_fail "$1: nothing was written"
	echo "$1: $number writes as they should be"
}

write_direct() { # FIRST-MIB MIBS
	dd if=/dev/urandom of="$device" bs=1M seek="$1" count="$2" oflag=direct conv=notrunc status=none
}

test_flags() { # WHAT
	lb_step "$1: an allocating write of somebody who waits, of the first class"
	# Tables are there already.
	write_direct 63 1
	dmsetup message "$name" 0 commit
	trace_begin
	ionice -c 1 -n 3 dd if=/dev/urandom of="$device" bs=1M count=4 oflag=direct conv=notrunc status=none
	must_be_data "$1, new clusters" $((sync | idle)) $first_class $((4 * mib))
	[ "$1" = file ] || test_commit
}

test_commit() {
	lb_step "a commit"
	trace_begin
	dmsetup message "$name" 0 commit
	must_be_metadata "a commit"
	lb_step "writes that nobody waits for stay such"
	# The last one to close it would wait for what is to be written.
	exec 7<"$device"
	trace_begin
	dd if=/dev/urandom of="$device" bs=1M seek=8 count=4 conv=notrunc status=none
	# Written back by the kernel's own thread, in the background.
	local interval age
	interval=$(</proc/sys/vm/dirty_writeback_centisecs)
	age=$(</proc/sys/vm/dirty_expire_centisecs)
	echo 100 >/proc/sys/vm/dirty_writeback_centisecs
	echo 10 >/proc/sys/vm/dirty_expire_centisecs
	sleep 3
	echo "$interval" >/proc/sys/vm/dirty_writeback_centisecs
	echo "$age" >/proc/sys/vm/dirty_expire_centisecs
	must_be_data "written back" 0 any $((2 * mib))
	exec 7<&-
}

written_by_group() {
	local bytes
	bytes=$(awk '/^1:[0-9]+ / { for (i = 2; i <= NF; i++) if (sub("wbytes=", "", $i)) sum += $i } END { print sum + 0 }' \
		"$groups/lb/io.stat")
	echo "$bytes"
}

must_be_charged() { # WHAT BEFORE BYTES
	local after
	after=$(written_by_group)
	[ $((after - $2)) -ge "$3" ] || lb_fail "$1: $((after - $2)) of $3 bytes are charged to whose they are"
	echo "$1: $((after - $2)) bytes are charged to whose they are"
}

# The rest of the line, in the control group.
in_group() { (echo "$BASHPID" >"$groups/lb/cgroup.procs" && exec "$@"); }

test_group() { # WHAT
	local before
	lb_step "$1: what a member of a control group writes is charged to it"
	before=$(written_by_group)
	in_group dd if=/dev/urandom of="$device" bs=1M seek=16 count=4 oflag=direct conv=notrunc status=none
	must_be_charged "$1, new clusters" "$before" $((4 * mib))
	before=$(written_by_group)
	write_direct 24 4
	[ "$(written_by_group)" = "$before" ] || lb_fail "$1: others' writes are charged to it"
}

test_all() { # WHAT IMAGE
	lb_image "$2" 64M
	lb_attach "$name" "$2"
	test_flags "$1"
	test_group "$1"
	lb_detach "$name"
	lb_check "$2"
}

lb_load
echo "+io +memory" >"$groups/cgroup.subtree_control"
mkdir "$groups/lb"
ram=$(lb_ramdisk 128)
test_all disk "$ram"
dir=$(lb_scratch 400 xfs)
test_all file "$dir/disk.qcow2"
umount "$dir"
echo 0 >"$tracing/events/lb/below/enable"
lb_unload
