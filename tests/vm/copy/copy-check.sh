#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: 50,000 random reads, writes, discards, zeroes and copies on loop-copy and null-copy leave what a model says
# needs: mkfs.xfs mkfs.btrfs mkfs.ext4
# timeout: 900
# mem: 3G
# debug: yes
# first: yes
#
# Environment: LIVEBLK_SEED, the seed of the first run, each further one counts one up; LIVEBLK_COPY_OPS, operations in all
# (default 50,000, 80 times that with LIVEBLK_FULL=1, a tenth on a debug kernel).
set -eu -o pipefail
# shellcheck source=tests/vm/copy/lib.sh
. tests/vm/copy/lib.sh

seed=${LIVEBLK_SEED:-$((RANDOM * 32768 + RANDOM))}
ops=50000
[ "${LIVEBLK_FULL:-0}" != 1 ] || ops=4000000
[ ! -e /sys/kernel/debug/kmemleak ] || ops=10000
ops=${LIVEBLK_COPY_OPS:-$ops}
done_ops=0
mix=25,25,7,9,1

check() { # DEVICE NAME OPS [OPTION]...
	local device=$1 name=$2 count=$3 out
	shift 3
	lb_step "$name, seed $seed"
	out=$(blk-difftest "$device" --model "$models/model" --seed "$seed" --ops "$count" --copies 40 \
		--mix "$mix" --strict --discard zeros "$@" 2>&1) || {
		echo "$out"
		lb_fail "$name: to repeat: LIVEBLK_SEED=$seed LIVEBLK_COPY_OPS=$ops"
	}
	echo "$out"
	rm "$models/model"
	seed=$((seed + 1))
	done_ops=$((done_ops + count))
	(($(cp_attr "$device" offloaded) > 0)) || lb_fail "$name: no copy was offloaded"
}

on_loop() { # FILE-SYSTEM [OPTION]...
	local fs=$1 dir device
	shift
	dir=$(lb_scratch 300 "$fs")
	truncate -s 24M "$dir/disk"
	device=$(cp_loop "$dir/disk")
	# Five runs of these, and six of those below, which are faster.
	check "$device" "loop-copy on $fs" $((ops * 7 / 100)) --max-size 32k --cluster-size 4k "$@"
	cp_loop_detach "$device"
	umount "$dir"
}

on_null() { # WHAT VALUES [OPTION]...
	local what=$1 values=$2 device
	shift 2
	# shellcheck disable=SC2086 # words on purpose
	device=$(cp_null check size=16 $values)
	check "$device" "null-copy, $what" $((ops * 11 / 100)) --max-size 32k --cluster-size 4k "$@"
	cp_null_remove check
}

cp_load loop-copy null-copy
models=$(lb_scratch 64 tmpfs)
on_loop xfs --jobs 3
on_loop btrfs --jobs 2
on_loop ext4 --jobs 3
on_loop tmpfs --jobs 3
on_null "one queue" "" --jobs 4
on_null "four queues" "submit_queues=4 hw_queue_depth=16" --jobs 4
on_null "copies in pieces of three sectors" "copy_max_bytes=1536" --jobs 3 --emulate 50
on_null "late completion" "completion_nsec=20000" --jobs 3
on_null "4 KiB blocks" "blocksize=4096" --jobs 3 --block-size 4k
on_loop xfs --jobs 4 --buffered 60
# Wherever one may write; the last zone has to be written in order, and is left alone.
mix=25,25,0,0,1
on_null "zones" "zoned=1 zone_size=1 zone_nr_conv=15" --jobs 3 --from 0 --length 15m
cp_unload loop-copy null-copy
echo "$done_ops operations agree"
