#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: random operations over random image geometries, with images below, a data file, or neither, leave what a plain model says
# needs: blkdiscard qemu-img qemu-io dmsetup mkfs.xfs mkfs.ext4 mkfs.btrfs
# timeout: 1500
# mem: 3G
# first: yes
#
# Environment: LIVEBLK_SEED, the seed of the first geometry, each further one counts one up;
# LIVEBLK_GEOMETRIES, how many (default 12, 300 with LIVEBLK_FULL=1, 8 on a debug kernel).
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/random.sh
. tests/lib/random.sh

seed=${LIVEBLK_SEED:-$((RANDOM * 32768 + RANDOM))}
default_count=12
[ "${LIVEBLK_FULL:-0}" != 1 ] || default_count=300
[ ! -e /sys/kernel/debug/kmemleak ] || default_count=8
count=${LIVEBLK_GEOMETRIES:-$default_count}
mib=1048576
name=diff0
declare -A places=()
declare -a snapshots=()
# The geometry, set by the choose_ functions.
place='' image='' version=3 cluster=65536 refcount_bits=16 lazy=off preallocation=off size=0 windows=0
compression=zlib extended=off
rounds=2 jobs=1 max_size=65536 cache='' ops=0 max_snapshots=0
# The images below, nearest first, as words of the table line; and what a discard leaves.
declare -a chain=()
layers=0
discard=zeros
# Where guest data is: no, if that is the image itself; yes or raw.
external=no data=''

# Each file system is made when the first geometry asks for it.
make_place() { # PLACE
	[ -z "${places[$1]:-}" ] || return 0
	case $1 in
	block | data-disk) places[$1]=$(lb_ramdisk 384) ;;
	*) places[$1]=$(lb_scratch 384 "$1") ;;
	esac
}

use_place() {
	make_place "$place"
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
	compression=zlib
	if ((version == 3)); then
		random_pick refcount_bits 1 2 4 8 16 16 32 64
		random_pick lazy off off on
		random_pick compression zlib zstd
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
	# The page cache writes such a disk in single sectors, and here each of them reads a block and writes it.
	if [ "$place" = btrfs ] && ((size % 4096)); then max_size=65536; fi
	ops=220
	((max_size < 1048576)) || ops=140
	max_snapshots=2
	((refcount_bits > 1)) || max_snapshots=0
	# qemu-img takes one reference more while it reverts: 3 are the most.
	((refcount_bits != 2)) || max_snapshots=1
}

choose_chain() {
	layers=0
	chain=()
	discard=zeros
	random_percent 45 || return 0
	random_below 3
	layers=$((REPLY + 1))
	preallocation=off
	# Nothing in version 2 would hide what is below.
	((version > 2)) || discard=loose
}

# Sets "commands" to writes of data, and of zeros of both kinds.
choose_writes() { # BYTES HOW-MANY
	local what i at length
	commands=()
	for ((i = 0; i < $2; i++)); do
		random_pick what "write -P 90" "write -P 165" "write -z" "write -z -u"
		random_below $(($1 / 512))
		at=$((REPLY * 512))
		random_below 512
		length=$(((REPLY + 1) * 512))
		((at + length <= $1)) || continue
		commands+=(-c "$what $at $length")
	done
}

# What fails it says on stdout, among all that did not.
write_by_qemu() { # FORMAT FILE COMMAND...
	local output
	output=$(qemu-io -f "$1" "${@:3}" "$2" 2>&1) || {
		grep -vE '^wrote|ops/sec' <<<"$output" >&2
		lb_fail "qemu-io cannot write to $2"
	}
}

# Sets "packed" to compressed writes of whole clusters, each once, before all other writes: QEMU writes no data over.
choose_packed() { # BYTES CLUSTER HOW-MANY
	local i value
	local -A chosen=()
	packed=()
	for ((i = 0; i < $3 && $1 >= $2; i++)); do
		random_below 250
		value=$((REPLY + 1))
		random_below $(($1 / $2))
		[ -z "${chosen[$REPLY]:-}" ] || continue
		chosen[$REPLY]=yes
		packed+=(-c "write -c -P $value $((REPLY * $2)) $2")
	done
}

# An external data file, in a place of its own. It has no refcounts, so that nothing is shared with snapshots.
choose_data() {
	local where
	external=no
	data=''
	random_percent 30 || return 0
	((version > 2 && size < 1024 * mib)) || return 0
	external=yes
	((layers > 0)) || random_pick external yes raw
	random_pick where xfs ext4 tmpfs btrfs data-disk
	make_place "$where"
	data=${places[$where]}
	[ "$where" = data-disk ] || data=$data/data
	max_snapshots=0
	# Of a disk, or with preallocation=full of a file, QEMU would write all of it first.
	preallocation=off
	# What a raw file has of a discarded part of a cluster is zeros, too, if its device knows a command for them.
	[ "$external" != raw ] || discard=loose
}

# Extended L2 entries; on btrfs, and in memory, a block has more than one subcluster.
choose_extended() {
	extended=off
	((version > 2 && cluster >= 16384)) || return 0
	! random_percent 40 || extended=on
}

# From the lowest one up: any length, shorter and longer than what is above it, any cluster size.
create_chain() {
	local i below='' below_format='' file where format bytes least size_of type entries
	local -a commands packed
	for ((i = layers; i > 0; i--)); do
		random_pick where xfs tmpfs ext4
		make_place "$where"
		file=${places[$where]}/layer$i
		rm -f "$file"
		least=$((size < 64 * mib ? size : 64 * mib))
		random_below $((least / 512))
		bytes=$(((REPLY + 512) * 512))
		random_pick format raw qcow2
		[ -z "$below" ] || format=qcow2
		random_below 10
		size_of=$((4096 << REPLY))
		random_pick type zlib zstd
		entries=off
		((size_of < 16384)) || random_pick entries off on
		packed=()
		if [ "$format" = raw ]; then
			truncate -s "$bytes" "$file"
		else
			qemu-img create -q -f qcow2 -o "cluster_size=$size_of,compression_type=$type,extended_l2=$entries" \
				${below:+-F "$below_format" -b "$below"} "$file" "$bytes"
			! random_percent 50 || choose_packed "$bytes" "$size_of" 20
		fi
		choose_writes "$bytes" 12
		write_by_qemu "$format" "$file" ${packed[@]+"${packed[@]}"} "${commands[@]}"
		chain=(backing "$format" "$file" "${chain[@]}")
		below=$file below_format=$format
	done
}

create_image() {
	local format=compat=0.10 backing=()
	((version == 2)) ||
		format=compat=1.1,lazy_refcounts=$lazy,refcount_bits=$refcount_bits,compression_type=$compression,extended_l2=$extended
	# What preallocated clusters hold on a disk is what the disk held before.
	if [ "$place" != block ]; then
		rm -f "$image"
	elif [ "$preallocation" != off ]; then
		blkdiscard -z "$image" || lb_fail "cannot zero $image"
	fi
	if [ "$external" != no ]; then
		format+=,data_file=$data
		[ "$external" = yes ] || format+=,data_file_raw=on
		if [ -b "$data" ]; then
			blkdiscard -z "$data" || lb_fail "cannot zero $data"
		else
			rm -f "$data"
		fi
	fi
	((layers == 0)) || backing=(-F "${chain[1]}" -b "${chain[2]}")
	[ "$external" = raw ] || format+=,preallocation=$preallocation
	qemu-img create -q -f qcow2 -o "$format,cluster_size=$cluster" "${backing[@]}" \
		"$image" "$size"
	if ((layers > 0)); then
		qemu-img convert -f qcow2 -O raw "$image" "$model"
	else
		truncate -s "$size" "$model"
	fi
}

# Content that QEMU has made.
prefill() {
	random_percent 60 || return 0
	local -a commands packed=()
	local length=$((size < 8 * mib ? size : 8 * mib)) most=30
	# All may be in one host cluster, and each snapshot, and a revert, has as many references again.
	((max_snapshots == 0 || refcount_bits >= 8)) || most=$((((1 << refcount_bits) - 1) / (max_snapshots + 2)))
	# With a data file nothing can be compressed.
	if [ "$preallocation $external" = "off no" ] && random_percent 60; then
		choose_packed "$length" "$cluster" "$most"
	fi
	choose_writes "$length" 6
	# A new file reads as zeros where QEMU has zeroed it, so one list serves both.
	write_by_qemu qcow2 "$image" ${packed[@]+"${packed[@]}"} "${commands[@]}"
	write_by_qemu raw "$model" ${packed[@]+"${packed[@]/write -c/write}"} "${commands[@]}"
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
		--discard "$discard" --strict
}

# Not lb_attach, which starts qemu-img for a size that is known here.
attach() {
	local -a arguments=()
	read -r -a arguments <<<"$cache"
	arguments+=(${data:+data_file "$data"} "${chain[@]}")
	dmsetup create "$name" --table "0 $((size / 512)) qcow2 $image ${#arguments[@]} ${arguments[*]}"
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
	[ "$external" != raw ] || cmp -n "$size" "$model" "$data" || lb_fail "round $1: the data file is not the disk"
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
	choose_chain
	choose_data
	choose_extended
	use_place
	lb_step "geometry seed $geometry_seed: $place v$version cluster $cluster refcount_bits $refcount_bits" \
		"lazy $lazy preallocation $preallocation size $size rounds $rounds jobs $jobs max $max_size ${cache:-}" \
		"layers $layers compression $compression extended $extended data $external${data:+ in $data}"
	create_chain
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
	[ -b "$data" ] || rm -f "$data"
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
