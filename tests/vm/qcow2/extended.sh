#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: extended L2 entries: subclusters written, zeroed, copied for snapshots, in chains, data files and bitmaps, as QEMU does it
# needs: qemu-img qemu-io dmsetup blkdiscard fallocate mkfs.ext4 mkfs.btrfs jq
# cpus: 1
# timeout: 900
# mem: 2G
# first: yes
#
# Environment: LIVEBLK_SEED; LIVEBLK_PARTS, some of "history pieces chain data bitmap hostile blocks" (default all).
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh
# shellcheck source=tests/lib/random.sh
. tests/lib/random.sh
# shellcheck source=tests/lib/model.sh
. tests/lib/model.sh

random_start

extended() { lb_image "$1" "$2" extended_l2=on "${@:3}"; } # IMAGE SIZE OPTION...

# QEMU writes, and zeroes parts of clusters, in the image and the model.
scribble() { # IMAGE HOW-MANY
	local commands
	choose_writes "$size" "$2"
	commands+=(-c "write -q -z 1M 37k" -c "write -q -z -u 3670k 333k")
	qemu-io -f qcow2 "${commands[@]}" "$1" >/dev/null || lb_fail "qemu-io cannot write to $1"
	qemu-io -f raw "${commands[@]}" "$model" >/dev/null
}

new_model() {
	rm -f "$model"
	truncate -s "$size" "$model"
}

# Parts of subclusters, of clusters, and whole ones.
change() {
	write_both "$name" "$size" 30
	zero_both "$name" $((mib / 2 + 1024)) 45056 -z
	zero_both "$name" $((2 * mib + 512)) $((mib / 4)) -z
	zero_both "$name" $((4 * mib)) $((2 * mib))
	zero_both "$name" $((size - 1536)) 1536 -z
	write_both "$name" "$size" 10
	same_as_model "$name"
}

copy_within() { # FROM TO BYTES
	blk-copy "/dev/mapper/$name:$1" "/dev/mapper/$name:$2" "$3"
	dd if="$model" of="$model" bs=512 skip=$(($1 / 512)) seek=$(($2 / 512)) count=$(($3 / 512)) conv=notrunc status=none
	same_as_model "$name"
}

finish() { # IMAGE
	lb_detach "$name"
	lb_check "$1"
	qemu-img compare -q -f qcow2 -F raw "$1" "$model" || lb_fail "QEMU reads something else from $1"
}

# With a snapshot, whose clusters are written over.
history() { # CLUSTER OPTION...
	local image=$dir/image
	rm -f "$image"
	new_model
	extended "$image" "$size" "cluster_size=$1" "${@:2}"
	# Not over what has a place already: QEMU does not compress that.
	if [[ $* != *preallocation* ]]; then
		qemu-io -f qcow2 -c "write -q -c -P 7 6M 2M" "$image" >/dev/null || lb_fail "qemu-io cannot compress"
		qemu-io -f raw -c "write -q -P 7 6M 2M" "$model" >/dev/null
	fi
	scribble "$image" 12
	lb_attach "$name" "$image"
	same_as_model "$name"
	change
	dmsetup suspend "$name"
	lb_check "$image"
	qemu-img snapshot -c before "$image"
	cp "$model" "$model.before"
	dmsetup resume "$name"
	change
	finish "$image"
	rm -f "$dir/out"
	qemu-img convert -f qcow2 -O raw -l snapshot.name=before "$image" "$dir/out"
	cmp "$dir/out" "$model.before" || lb_fail "the snapshot has changed"
	lb_attach "$name" "$image" read_only
	same_as_model "$name"
	lb_detach "$name"
}

part_history() {
	local n
	n=$(lb_kernel_number)
	lb_step "subclusters of 512 bytes"
	history 16384
	lb_step "subclusters of 2 KiB, lazy refcounts"
	history 65536 lazy_refcounts=on
	if ((n % 2)) || [ "${LIVEBLK_FULL:-0}" = 1 ]; then
		lb_step "subclusters of 64 KiB"
		history 2097152 compression_type=zstd
	else
		lb_step "clusters that are all there, and subclusters that are not"
		history 131072 preallocation=metadata
	fi
}

# What the image itself says of bytes, from "data" or "zero" of its first run there, and its length.
must_map() { # IMAGE OFFSET LENGTH SAYS
	local says
	says=$(qemu-img map --output=json -s "$2" -l "$3" "$1" |
		jq -r '[.[] | "\(.start)+\(.length):\(if .depth > 0 then "below" elif .zero then "zero" else "data" end)"] | join(" ")')
	[ "$says" = "$4" ] || lb_fail "$1 has at $2: $says, not $4"
}

# No more is copied than the subclusters that a write touches.
part_pieces() {
	local base=$dir/base image=$dir/over used
	lb_step "a write copies its subclusters, and no more"
	rm -f "$base" "$image"
	new_model
	qemu-io -f raw -c "write -q -P 9 0 $size" "$model"
	cp "$model" "$base"
	qemu-img create -q -f qcow2 -o extended_l2=on -F raw -b "$base" "$image"
	lb_attach "$name" "$image" backing raw "$base"
	on_both "$name" -c "write -q -P 1 1049088 512" -c "write -q -P 2 2099200 6144" -c "write -q -P 3 3211264 65536"
	zero_both "$name" $((5 * mib + 1024)) 9216 -z
	same_as_model "$name"
	# The cluster has a place already.
	on_both "$name" -c "write -q -P 4 1060864 1024"
	same_as_model "$name"
	finish "$image"
	must_map "$image" $mib 16384 "1048576+2048:data 1050624+10240:below 1060864+2048:data 1062912+2048:below"
	must_map "$image" $((2 * mib)) 16384 "2097152+2048:below 2099200+6144:data 2105344+8192:below"
	must_map "$image" 3211264 131072 "3211264+65536:data 3276800+65536:below"
	must_map "$image" $((5 * mib)) 16384 "5242880+2048:data 5244928+8192:zero 5253120+6144:below"
	used=$(qemu-img check --output=json "$image" | jq '."allocated-clusters"')
	[ "$used" = 4 ] || lb_fail "$used clusters have a place, not 4"
}

# Whatever is extended, above, in the middle, or below.
part_chain() {
	local base=$dir/base middle=$dir/middle top=$dir/top kind
	for kind in "extended_l2=on,cluster_size=16k extended_l2=on,cluster_size=128k" \
		"cluster_size=4k extended_l2=on" "extended_l2=on,cluster_size=32k compat=0.10"; do
		lb_step "layers: $kind"
		rm -f "$base" "$middle" "$top"
		new_model
		truncate -s $((5 * mib + 1536)) "$base"
		qemu-io -f raw -c "write -q -P 11 0 $((5 * mib + 1536))" "$base"
		qemu-img create -q -f qcow2 -o "${kind% *}" -F raw -b "$base" "$middle" $((6 * mib + 2560))
		qemu-io -f qcow2 -c "write -q -P 12 700k 5k" -c "write -q -z 900k 70k" -c "write -q -P 13 $((6 * mib)) 2560" \
			-c "write -q -P 14 2M 1500k" "$middle"
		qemu-img create -q -f qcow2 -o "${kind#* }" -F qcow2 -b "$middle" "$top" "$size"
		qemu-io -f qcow2 -c "write -q -P 15 703k 1k" -c "write -q -P 16 2050k 7k" "$top"
		qemu-img convert -O raw "$top" "$model"
		lb_attach "$name" "$top" backing qcow2 "$middle" backing raw "$base"
		same_as_model "$name"
		write_both "$name" "$size" 40
		zero_both "$name" $((mib / 2 + 1024)) 400384 -z
		[[ $kind == *compat* ]] || zero_both "$name" $((4 * mib)) $((2 * mib))
		copy_within $((2 * mib + 3584)) $((5 * mib)) $((mib + 4096))
		finish "$top"
	done
}

part_data() {
	local image=$dir/image raw
	for raw in off on; do
		lb_step "an external data file, raw: $raw"
		rm -f "$image" "$dir/data"
		new_model
		extended "$image" "$size" "data_file=$dir/data" "data_file_raw=$raw"
		scribble "$image" 10
		lb_attach "$name" "$image" data_file "$dir/data"
		same_as_model "$name"
		change
		finish "$image"
		[ "$raw" = off ] || cmp -n "$size" "$dir/data" "$model" || lb_fail "the data file does not hold the disk"
	done
}

part_bitmap() {
	local image=$dir/image dirty
	lb_step "a bitmap records writes to subclusters"
	rm -f "$image"
	new_model
	extended "$image" "$size"
	qemu-img bitmap --add -g 4k "$image" one
	lb_attach "$name" "$image"
	on_both "$name" -c "write -q -P 1 1049088 512"
	zero_both "$name" $((2 * mib)) 4096 -z
	finish "$image"
	qemu-img info --output=json "$image" | jq -e '."format-specific".data.bitmaps[0].flags == ["auto"]' >/dev/null ||
		lb_fail "the bitmap is not good"
	dirty=$("$LIVEBLK_BUILD/bin/qcow2-maint" bitmap dump "$image" one | jq -c '[.ranges[] | .start, .length]')
	[ "$dirty" = "[1048576,4096,2097152,4096]" ] || lb_fail "what has changed: $dirty"
}

number_at() { od -An -v -tu8 --endian=big -j "$2" -N 8 "$1" | tr -d ' '; } # FILE OFFSET
poke() { printf '%b' "$(printf %016x "$3" | sed 's/../\\x&/g')" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }

# Each of these entries is refused by itself, and its neighbours can be used.
part_hostile() {
	local image=$dir/image l2 bad at
	lb_step "entries that make no sense"
	rm -f "$image"
	new_model
	extended "$image" "$size"
	qemu-io -f qcow2 -c "write -q -P 1 0 1M" "$image"
	qemu-io -f raw -c "write -q -P 1 0 1M" "$model"
	l2=$(($(number_at "$image" "$(number_at "$image" 40)") & 0xfffffffffffe00))
	poke "$image" $((l2 + 16 * 1 + 8)) 0x00000001ffffffff                              # data and zeros
	poke "$image" $((l2 + 16 * 3)) $(($(number_at "$image" $((l2 + 16 * 3))) | 1))     # the zero flag of other images
	poke "$image" $((l2 + 16 * 5)) $(((l2 & ~65535) | 1 << 62))                        # compressed, with bits
	poke "$image" $((l2 + 16 * 7)) 0                                                   # no host cluster
	poke "$image" $((l2 + 16 * 9)) $((1 << 63 | l2))                                   # a table
	lb_attach "$name" "$image"
	for bad in 1 3 5 7 9; do
		must_give "Input/output error" if="/dev/mapper/$name" of=/dev/null bs=64k skip=$bad count=1 iflag=direct
		must_give "Input/output error" if=/dev/zero of="/dev/mapper/$name" bs=512 seek=$((bad * 128 + 3)) count=1 oflag=direct
		must_fail "" blkdiscard -z -o $((bad * 65536 + 2048)) -l 4096 "/dev/mapper/$name"
	done
	for at in 0 2 4 6 8 10; do
		qemu-io -f raw -t none -c "read -q -P 1 $((at * 64))k 64k" -c "write -q -P 2 $((at * 64 + 3))k 1k" \
			-c "read -q -P 2 $((at * 64 + 3))k 1k" "/dev/mapper/$name" | grep -q failed && lb_fail "cluster $at is lost"
	done
	lb_detach "$name"
}

part_blocks() {
	local disk image large cluster at
	lb_step "on a block device"
	disk=$(lb_ramdisk 32)
	new_model
	extended "$disk" "$size"
	scribble "$disk" 10
	lb_attach "$name" "$disk"
	same_as_model "$name"
	change
	finish "$disk"
	disk=$(lb_4kn_disk 32)
	for cluster in 16k 64k 128k; do
		lb_step "subclusters of clusters of $cluster, and blocks of 4096"
		rm -f "$dir/small"
		extended "$dir/small" "$size" "cluster_size=$cluster"
		new_model
		scribble "$dir/small" 20
		# Subclusters that are there are copied, and their neighbours in a block may be holes.
		qemu-img snapshot -c before "$dir/small"
		dd if="$dir/small" of="$disk" bs=1M oflag=direct conv=sync status=none
		lb_attach "$name" "$disk"
		same_as_model "$name"
		change
		finish "$disk"
	done
	rmmod scsi_debug
	lb_step "subclusters of 2 KiB on btrfs"
	large=$(lb_scratch 200 btrfs)
	image=$large/image
	new_model
	extended "$image" "$size"
	scribble "$image" 30
	lb_attach "$name" "$image"
	copy_within $((2 * mib + 4096)) $((5 * mib)) $((mib + 8192))
	change
	copy_within 0 $((4 * mib)) $((3 * mib))
	finish "$image"

	lb_step "over a base of larger blocks"
	image=$dir/over
	rm -f "$image"
	new_model
	qemu-io -f raw -c "write -q -P 9 0 $size" "$model"
	cp "$model" "$large/base"
	qemu-img create -q -f qcow2 -o extended_l2=on -F raw -b "$large/base" "$image"
	qemu-io -f qcow2 -c "write -q -P 1 4M 66k" "$image"
	qemu-io -f raw -c "write -q -P 1 4M 66k" "$model"
	for at in 0 6 10 18 126; do
		qemu-io -f qcow2 -c "write -q -P 2 $((2048 + at))k 2k" "$image"
		qemu-io -f raw -c "write -q -P 2 $((2048 + at))k 2k" "$model"
	done
	lb_attach "$name" "$image" backing raw "$large/base"
	copy_within $((2 * mib)) $((4 * mib)) 131072
	change
	copy_within $((2 * mib + 4096)) $((5 * mib)) $((mib + 8192))
	finish "$image"
	cut_data_device "$large"
}

# The last subcluster is cut by the end of the disk and of the device, and shares a block of the base with another one.
cut_data_device() { # DIRECTORY
	local disk image=$dir/over size=$((8 * mib + 3584))
	lb_step "a data file that is a device and ends inside of a block of the base"
	disk=$(lb_ramdisk 16)
	dmsetup create cut --table "0 $((size / 512)) linear $disk 0"
	rm -f "$image"
	new_model
	qemu-io -f raw -c "write -q -P 9 0 $size" "$model"
	cp "$model" "$1/base"
	extended "$image" "$size" data_file=/dev/mapper/cut
	qemu-img rebase -u -F raw -b "$1/base" "$image"
	lb_attach "$name" "$image" data_file /dev/mapper/cut backing raw "$1/base"
	on_both "$name" -c "write -q -P 4 $((size - 512)) 512"
	same_as_model "$name"
	on_both "$name" -c "write -q -P 5 $((8 * mib)) 512"
	same_as_model "$name"
	finish "$image"
	dmsetup remove cut
}

export PATH=$LIVEBLK_BUILD/bin:$PATH
mib=1048576
size=$((8 * mib + 512 * 3))
name=extended
lb_load
dir=$(lb_scratch 200 ext4)
model=$(lb_scratch 200 tmpfs)/model
for part in ${LIVEBLK_PARTS:-history pieces chain data bitmap hostile blocks}; do
	"part_$part"
done
lb_unload
