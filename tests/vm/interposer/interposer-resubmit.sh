#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: originals that submit what they have split to themselves again: through the target once; bios that wait in a long chain
# needs: dmsetup fio blkdiscard losetup jq
# timeout: 300
# one-thread: yes
set -eu -o pipefail
# shellcheck source=tests/vm/interposer/lib.sh
. tests/vm/interposer/lib.sh

model=$lb_state/model
trace=/sys/kernel/tracing

# Sectors read, written and discarded, as the target counts them.
seen() { awk -v f="$2" '{ print $f }' "/sys/block/$(bi_disk "/dev/mapper/$1")/stat"; }

count() { # NAME FIELD SECTORS COMMAND...
	local name=$1 field=$2 sectors=$3 before
	shift 3
	before=$(seen "$name" "$field")
	"$@" || lb_fail "$*"
	before=$(($(seen "$name" "$field") - before))
	[ "$before" = "$sectors" ] || lb_fail "of $sectors sectors the target has seen $before: $*"
}

same() { # DEVICE
	dd if="$1" iflag=direct bs=236k status=none | cmp - "$model" || lb_fail "$1 does not hold what was written"
}

# What the device holds without the target: the model, moved.
same_below() { # DEVICE
	local end=$(($(bi_sectors "$1") - bi_moved))
	blockdev --flushbufs "$1"
	cmp -n $((end * 512)) "$1" "$model" -i $((bi_moved * 512)):0 || lb_fail "$1 does not hold what the target sent"
	cmp -n $((bi_moved * 512)) "$1" "$model" -i 0:$((end * 512)) || lb_fail "the beginning of $1 is not what the target sent"
}

discard() { # DEVICE OFFSET LENGTH
	blkdiscard -o "$2" -l "$3" "$1" && fallocate -p -o "$2" -l "$3" "$model"
}

# Four members of 16 MiB that take 40 KiB at a time, in chunks of 64 KiB, each on two of them.
make_raid() {
	local md=/sys/block/md127/md n member
	modprobe loop
	echo md127 >/sys/module/md_mod/parameters/new_array
	echo none >"$md/metadata_version"
	echo raid10 >"$md/level"
	echo 65536 >"$md/chunk_size"
	echo 258 >"$md/layout"
	echo 4 >"$md/raid_disks"
	for n in 0 1 2 3; do
		truncate -s 16M "$lb_state/member$n"
		member=$(losetup -f --show "$lb_state/member$n")
		echo 40 >"/sys/block/${member#/dev/}/queue/max_sectors_kb"
		cat "/sys/block/${member#/dev/}/dev" >"$md/new_dev"
		echo "$n" >"$md/dev-${member#/dev/}/slot"
	done
	echo 16384 >"$md/component_size"
	echo none >"$md/resync_start"
	echo active >"$md/array_state"
	[ -b /dev/md127 ] || mknod /dev/md127 b 9 127
	[ "$(bi_sectors /dev/md127)" = 65536 ] || lb_fail "the array has $(bi_sectors /dev/md127) sectors"
}

test_raid() {
	lb_step "raid10: what it splits at chunks, and discards"
	local size=$((32 << 20)) offset length
	bi_rotate rot /dev/md127
	dd if=/dev/urandom of="$model" bs=1M count=32 status=none
	count rot 7 65536 dd if="$model" of=/dev/md127 bs=236k oflag=direct status=none
	count rot 3 65536 dd if=/dev/md127 of=/dev/null bs=236k iflag=direct status=none
	same /dev/md127
	for offset in 0 4096 $((60 << 10)) $((7 << 20 | 20480)) $((size / 2 + 512)); do
		for length in $((256 << 10)) $((1500 << 10)) $((3 << 20 | 12288)); do
			count rot 14 $((length / 512)) discard /dev/md127 "$offset" "$length"
		done
	done
	same /dev/md127
	blk-interpose remove rot
	same_below /dev/md127
	bi_none_left
}

# With the gate closed, a part that comes by once more would wait for itself.
test_raid_load() {
	lb_step "raid10: attached and detached under load"
	local pid begun
	fio --name=load --filename=/dev/md127 --size=16m --rw=randrw --bsrange=4k-256k --ioengine=io_uring --iodepth=8 \
		--direct=1 --verify=crc32c --verify_fatal=1 --time_based --runtime=3600 --output="$lb_state/fio" &
	pid=$!
	sleep 1
	begun=$(cut -d. -f1 /proc/uptime)
	for _ in 1 2 3; do
		blk-interpose create lin --table "0 65536 linear [interpose]/dev/md127 0"
		blkdiscard -o $(((16 << 20) + 20480)) -l $((3 << 20)) /dev/md127
		blk-interpose remove lin
	done
	begun=$(($(cut -d. -f1 /proc/uptime) - begun))
	((begun < 60)) || lb_fail "three times have taken $begun s"
	bi_end_fio "$pid"
	[ "$(bi_inflight /dev/md127)" = 0 ] || lb_fail "md counts I/O that is no more"
	bi_none_left
}

# A thin volume gives back what its pool has no space for when it is suspended; device-mapper submits that again. Only
# what it has split, at the pool's blocks, becomes another bio then.
test_requeue() {
	lb_step "device-mapper: what is queued again"
	local meta data writer before
	bi_has_driver dm-thin-pool || return 0
	meta=$(lb_ramdisk 4) data=$(lb_ramdisk 16)
	# Full in the middle of a write, as the last part of one is no longer a split.
	dmsetup create pool --table "0 5120 thin-pool $meta $data 128 0"
	dmsetup message pool 0 "create_thin 0"
	dmsetup create thin --table "0 32768 thin /dev/mapper/pool 0"
	mountpoint -q "$trace" || mount -t tracefs none "$trace"
	echo 'p:rewound dm_mod:dm_io_rewind' >"$trace/kprobe_events"
	echo 1 >"$trace/events/kprobes/rewound/enable"
	bi_rotate rot /dev/mapper/thin
	dd if=/dev/urandom of="$model" bs=1M count=16 status=none
	before=$(seen rot 7)
	dd if="$model" of=/dev/mapper/thin bs=1M oflag=direct status=none &
	writer=$!
	sleep 3
	kill -0 "$writer" || lb_fail "16 MiB are written to a pool of 2.5"
	dmsetup suspend --noflush --nolockfs thin
	dmsetup resume thin
	sleep 0.5
	kill -0 "$writer" || lb_fail "16 MiB are written to a pool of 2.5, which has been suspended"
	dmsetup suspend --noflush --nolockfs pool
	dmsetup reload pool --table "0 32768 thin-pool $meta $data 128 0"
	dmsetup resume pool
	wait "$writer" || lb_fail "the write has failed"
	awk '$1 == "rewound" { n = $2 } END { exit !n }' "$trace/kprobe_profile" || lb_fail "nothing was queued again"
	before=$(($(seen rot 7) - before))
	[ "$before" = 32768 ] || lb_fail "of 32768 sectors the target has seen $before"
	same /dev/mapper/thin
	echo 0 >"$trace/events/kprobes/rewound/enable"
	echo >"$trace/kprobe_events"
	blk-interpose remove rot
	same_below /dev/mapper/thin
	dmsetup remove thin
	dmsetup remove pool
	bi_none_left
}

# 2048 bios of 1 MiB in one chain; all but the first, which is late, are complete and wait for it.
test_chain() {
	lb_step "a chain of bios that ends at once"
	local ram begun
	ram=$(lb_ramdisk 1)
	printf '%s\n' "0 2048 delay $ram 0 0 $ram 0 4000" "2048 $(((2 << 21) - 2048)) zero" | dmsetup create late
	[ "$(<"/sys/block/$(bi_disk /dev/mapper/late)/queue/write_zeroes_max_bytes")" = 0 ] ||
		lb_fail "the original zeroes by itself"
	blk-interpose create top --table "0 $((2 << 21)) linear [interpose]/dev/mapper/late 0"
	dd if=/dev/urandom of="$ram" bs=1M count=1 oflag=direct status=none
	begun=$(cut -d. -f1 /proc/uptime)
	count top 7 $((2 << 21)) blkdiscard -z /dev/mapper/late
	(($(cut -d. -f1 /proc/uptime) - begun >= 3)) || lb_fail "the first was not late"
	cmp -n $((1 << 20)) "$ram" /dev/zero || lb_fail "not all is zero"
	blk-interpose remove top
	dmsetup remove late
	bi_none_left
}

lb_load_interposer
if bi_has_driver raid10; then
	make_raid
	test_raid
	test_raid_load
	echo clear >/sys/block/md127/md/array_state
fi
test_requeue
test_chain
lb_unload_interposer
