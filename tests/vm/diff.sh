#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: random operations over random image geometries leave what a plain model says
# needs: blkdiscard qemu-img qemu-io dmsetup mkfs.xfs mkfs.ext4 mkfs.btrfs jq
# timeout: 1500
# mem: 3G
#
# Environment: LIVEBLK_SEED, the seed of the first geometry, each further one counts one up;
# LIVEBLK_GEOMETRIES, how many (default 22, 300 with LIVEBLK_FULL=1, 8 on a debug kernel).
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/random.sh
. tests/lib/random.sh

seed=${LIVEBLK_SEED:-$((RANDOM * 32768 + RANDOM))}
default_count=22
[ "${LIVEBLK_FULL:-0}" != 1 ] || default_count=300
[ ! -e /sys/kernel/debug/kmemleak ] || default_count=8
count=${LIVEBLK_GEOMETRIES:-$default_count}
mib=1048576
name=diff0
declare -A places=()
declare -a snapshots=()
# The geometry, set by the choose_ functions.
place='' image='' version=3 cluster=65536 refcount_bits=16 lazy=off preallocation=off size=0 windows=0
rounds=2 jobs=1 max_size=65536 cache='' ops=0 max_snapshots=0

# Each file system is made when the first geometry asks for it.
use_place() {
	if [ -z "${places[$place]:-}" ]; then
		case $place in
		block) places[$place]=$(lb_ramdisk 384) ;;
		tmpfs) places[$place]=$(lb_scratch 384 tmpfs) ;;
		*) places[$place]=$(lb_scratch 384 "$place") ;;
		esac
	fi
	image=${places[$place]}
	[ "$place" = block ] || image=$image/disk.qcow2
}

choose_format() {
	random_pick place xfs ext4 btrfs tmpfs block block
	random_pick version 2 3 3 3
	random_below 10
	cluster=$((4096 << REPLY))
	refcount_bits=16
	lazy=off
	if ((version == 3)); then
		random_pick refcount_bits 1 2 4 8 16 16 32 64
		random_pick lazy off off on
	fi
	# qemu-img preallocates data in files only.
	if [ "$place" = block ]; then
		random_pick preallocation off off metadata
	else
		random_pick preallocation off off off metadata falloc full
	fi
}

choose_size() {
	windows=0
	random_below 100
	if ((REPLY < 6 && cluster >= 65536)); then
		size=$((1024 * 1024 * mib))
		windows=6
		preallocation=off
	elif ((REPLY < 20 && cluster <= 262144)); then
		random_below 129
		size=$(((128 + REPLY) * mib))
		windows=4
		# All of it, and two snapshots, would not fit into the place.
		[[ $preallocation != fa* && $preallocation != full ]] || preallocation=metadata
	else
		random_below 49
		size=$(((8 + REPLY) * mib))
	fi
	# An end within a cluster, often enough.
	if random_percent 30; then
		random_below 1024
		size=$((size + REPLY * 512))
	fi
}

choose_history() {
	random_pick rounds 2 2 3
	random_pick jobs 1 2 4
	random_pick max_size 65536 262144 262144 1048576 4194304
	random_pick cache "" "" "cache_kib 64"
	ops=220
	((max_size < 1048576)) || ops=140
	max_snapshots=2
	((refcount_bits > 1)) || max_snapshots=0
}

create_image() {
	local format=compat=0.10
	((version == 2)) || format=compat=1.1,lazy_refcounts=$lazy,refcount_bits=$refcount_bits
	# What preallocated clusters hold on a disk is what the disk held before.
	if [ "$place" != block ]; then
		rm -f "$image"
	elif [ "$preallocation" != off ]; then
		blkdiscard -z "$image" || lb_fail "cannot zero $image"
	fi
	qemu-img create -q -f qcow2 -o "$format,cluster_size=$cluster,preallocation=$preallocation" "$image" "$size"
	truncate -s "$size" "$model"
}

# Content that QEMU has made: data, and zeros of both kinds.
prefill() {
	random_percent 40 || return 0
	local -a commands=()
	local what i at length
	for ((i = 0; i < 6; i++)); do
		random_pick what "write -P 90" "write -P 165" "write -z" "write -z -u"
		random_below $((8 * mib / 512))
		at=$((REPLY * 512))
		random_below 512
		length=$(((REPLY + 1) * 512))
		((at + length <= size)) || continue
		commands+=(-c "$what $at $length")
	done
	# A new file reads as zeros where QEMU has zeroed it, so one list serves both.
	qemu-io -f qcow2 "${commands[@]}" "$image" >/dev/null
	qemu-io -f raw "${commands[@]}" "$model" >/dev/null
}

take_snapshot() {
	local id=s${#snapshots[@]}-$1
	qemu-img snapshot -c "$id" "$image"
	cp --sparse=always "$model" "$model.$id"
	snapshots+=("$id")
}

delete_snapshot() {
	local id=${snapshots[0]}
	qemu-img snapshot -d "$id" "$image"
	rm "$model.$id"
	snapshots=("${snapshots[@]:1}")
}

revert_to_snapshot() {
	local id=${snapshots[-1]}
	qemu-img snapshot -a "$id" "$image"
	cp --sparse=always "$model.$id" "$model"
}

# What an administrator does between two uses, or while the device is suspended.
maintain() { # ROUND
	if ((${#snapshots[@]} < max_snapshots)) && random_percent 60; then
		take_snapshot "$1"
	elif ((${#snapshots[@]} > 0)) && random_percent 40; then
		delete_snapshot
	fi
}

run_ops() { # SEED
	blk-difftest "/dev/mapper/$name" --model "$model" --seed "$1" --ops "$ops" --jobs "$jobs" \
		--max-size "$max_size" --cluster-size "$cluster" --windows "$windows" --window-size 4m \
		--discard zeros --strict
}

# Not lb_attach, which starts qemu-img for a size that is known here.
attach() {
	dmsetup create "$name" --table "0 $((size / 512)) qcow2 $image${cache:+ 2 $cache}"
	dmsetup mknodes "$name"
}

run_round() { # ROUND
	attach
	run_ops $((geometry_seed * 16 + $1 * 2))
	if random_percent 50; then
		dmsetup suspend "$name"
		maintain "$1"
		dmsetup resume "$name"
		run_ops $((geometry_seed * 16 + $1 * 2 + 1))
	fi
	lb_detach "$name"
	lb_check "$image"
	qemu-img compare -q -f raw -F qcow2 "$model" "$image" || lb_fail "round $1: the image is not what the model says"
}

verify_snapshots() {
	local id
	for id in ${snapshots[@]+"${snapshots[@]}"}; do
		rm -f "$model.out"
		qemu-img convert -f qcow2 -O raw -l "snapshot.name=$id" "$image" "$model.out"
		# Not cmp, which would read all the holes of a large disk.
		qemu-img compare -q -f raw -F raw "$model.$id" "$model.out" || lb_fail "snapshot $id has changed"
		rm "$model.out"
	done
}

run_geometry() {
	local round
	snapshots=()
	choose_format
	choose_size
	choose_history
	use_place
	lb_step "geometry seed $geometry_seed: $place v$version cluster $cluster refcount_bits $refcount_bits" \
		"lazy $lazy preallocation $preallocation size $size rounds $rounds jobs $jobs max $max_size ${cache:-}"
	create_image
	prefill
	for ((round = 0; round < rounds; round++)); do
		run_round "$round"
		if ((round == rounds - 1)); then
			verify_snapshots
		elif ((${#snapshots[@]} > 0)) && random_percent 20; then
			revert_to_snapshot
		else
			maintain "$round-detached"
		fi
	done
	rm -f "$model" "$model".*
	[ "$place" = block ] || rm -f "$image"
}

on_exit() {
	local status=$?
	[ "$status" = 0 ] ||
		echo "to repeat: LIVEBLK_SEED=${geometry_seed:-$seed} LIVEBLK_GEOMETRIES=1"
}
trap on_exit EXIT

export PATH=$LIVEBLK_BUILD/bin:$PATH
lb_load
model=$(lb_scratch 1024 tmpfs)/model.raw
echo "seed $seed, $count geometries"
for ((geometry = 0; geometry < count; geometry++)); do
	geometry_seed=$((seed + geometry))
	random_seed "$geometry_seed"
	run_geometry
done
lb_unload
echo "$count geometries agree"
