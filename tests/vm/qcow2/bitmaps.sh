#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: persistent dirty bitmaps: QEMU finds in them what was written, zeroed, discarded and copied, and nothing else
# needs: qemu-img qemu-io qemu-nbd dmsetup blkdiscard jq
# cpus: 1
# timeout: 600
#
# Environment: LIVEBLK_SEED; LIVEBLK_PARTS, some of "record crash space suspend hostile" (default all).
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh
# shellcheck source=tests/lib/bitmaps.sh
. tests/lib/bitmaps.sh
# shellcheck source=tests/lib/random.sh
. tests/lib/random.sh

mib=1048576
name=recorded
device=/dev/mapper/$name
ranges=/run/ranges # what was touched since a bitmap was made: lines "OFFSET BYTES"
random_start

# Numbers of granules, from lines "OFFSET BYTES".
granules() { # GRANULARITY
	awk -v g="$1" '{ for (i = int($1 / g); i * g < $1 + $2; i++) print i }' | sort -nu
}

must_be_recorded() { # IMAGE BITMAP GRANULARITY
	read_bitmap "$1" "$2" | granules "$3" >/run/found
	granules "$3" <"$ranges" >/run/expected
	cmp -s /run/found /run/expected ||
		lb_fail "bitmap $2 is not what was touched: $(diff /run/expected /run/found | head -n 20)"
}

# The flags of a bitmap, "in-use" among them if it is inconsistent.
must_have_flags() { # IMAGE BITMAP FLAGS-AS-JSON
	local flags
	flags=$(qemu-img info -U --output=json "$1" |
		jq -c ".\"format-specific\".data.bitmaps[] | select(.name == \"$2\") | .flags")
	[ "$flags" = "$3" ] || lb_fail "bitmap $2 has the flags $flags, not $3"
}

# Writes anywhere, of all sizes, by qemu-io.
write_some() { # FORMAT IMAGE BYTES HOW-MANY
	local i at len commands=()
	for ((i = 0; i < $4; i++)); do
		random_below $(($3 / 512))
		at=$((REPLY * 512))
		random_below 200
		len=$(((REPLY + 1) * 512))
		[ $((at + len)) -le "$3" ] || len=$(($3 - at))
		commands+=(-c "write -q -P $((i + 1)) $at $len")
		echo "$at $len" >>"$ranges"
	done
	qemu-io -f "$1" -t none "${commands[@]}" "$2" >/dev/null || lb_fail "qemu-io cannot write to $2"
}

# In whole clusters of any size.
zero() { # OFFSET BYTES [BLKDISCARD-OPTION]
	blkdiscard ${3:+"$3"} -o "$1" -l "$2" "$device" || lb_fail "cannot zero"
	echo "$1 $2" >>"$ranges"
}

copy() { # FROM TO BYTES
	"$LIVEBLK_BUILD/bin/blk-copy" --emulate=auto "$device:$1" "$device:$2" "$3" >/dev/null || lb_fail "cannot copy"
	echo "$2 $3" >>"$ranges"
}

make_bitmaps() { # IMAGE
	qemu-img bitmap --add "$1" usual
	qemu-img bitmap --add -g 512 "$1" fine
	qemu-img bitmap --add -g 1M "$1" coarse
	qemu-img bitmap --add -g 64k "$1" idle
	qemu-img bitmap --disable "$1" idle
	: >"$ranges"
}

all_recorded() { # IMAGE
	lb_check "$1"
	must_have_flags "$1" usual '["auto"]'
	must_be_recorded "$1" usual 65536
	must_be_recorded "$1" fine 512
	must_be_recorded "$1" coarse $mib
	must_have_flags "$1" idle '[]'
	[ -z "$(read_bitmap "$1" idle)" ] || lb_fail "a bitmap that is disabled has recorded something"
}

test_record() { # IMAGE BYTES OPTION...
	local image=$1 size=$2
	shift 2
	lb_step "bitmaps of an image of $size bytes ${*:-}"
	lb_image "$image" "$size" "$@"
	make_bitmaps "$image"
	write_some qcow2 "$image" "$size" 5
	lb_attach "$name" "$image"
	must_have_flags "$image" usual '["in-use","auto"]'
	must_have_flags "$image" idle '[]'
	write_some raw "$device" "$size" 20
	zero $((6 * mib)) $((2 * mib))
	zero $((10 * mib + 512)) 1536 -z
	zero $((12 * mib)) $((2 * mib)) -z
	copy $((1 * mib)) $((16 * mib)) $mib
	dmsetup suspend "$name"
	all_recorded "$image"
	write_some qcow2 "$image" "$size" 5
	dmsetup resume "$name"
	must_have_flags "$image" coarse '["in-use","auto"]'
	write_some raw "$device" "$size" 20
	lb_detach "$name"
	all_recorded "$image"
	# What begins anew has nothing of before.
	qemu-img bitmap --clear "$image" fine
	: >"$ranges"
	lb_attach "$name" "$image"
	write_some raw "$device" "$size" 3
	lb_detach "$name"
	must_be_recorded "$image" fine 512
	# Nothing is recorded, and all stays good, where nothing is written.
	lb_attach "$name" "$image" read_only
	must_have_flags "$image" fine '["auto"]'
	lb_detach "$name"
	must_be_recorded "$image" fine 512
}

# What QEMU would find if the host stopped now.
part_crash() {
	local dir image
	lb_step "a host that stops leaves bitmaps that count as inconsistent"
	dir=$(lb_scratch 300 ext4)
	image=$dir/image
	lb_image "$image" 32M
	make_bitmaps "$image"
	write_some qcow2 "$image" $((32 * mib)) 3
	lb_attach "$name" "$image"
	write_some raw "$device" $((32 * mib)) 10
	blockdev --flushbufs "$device"
	cp "$image" "$dir/copy"
	lb_detach "$name"
	all_recorded "$image"
	lb_check "$dir/copy"
	must_have_flags "$dir/copy" usual '["in-use","auto"]'
	# Inconsistent it stays, whatever is done with the image.
	lb_attach "$name" "$dir/copy"
	write_some raw "$device" $((32 * mib)) 3
	lb_detach "$name"
	must_have_flags "$dir/copy" usual '["in-use","auto"]'
	must_have_flags "$dir/copy" idle '[]'
	qemu-img bitmap --remove "$dir/copy" usual
	lb_check "$dir/copy"
	umount "$dir"
}

# Where a bitmap needs a cluster and there is none, it says that all was touched: never too little.
part_space() {
	local image at=0
	lb_step "no space for what was recorded"
	image=$(lb_ramdisk 8)
	lb_image "$image" 32M
	make_bitmaps "$image"
	lb_attach "$name" "$image"
	while qemu-io -f raw -t none -c "write -q $at 64k" "$device" >/dev/null 2>&1; do
		at=$((at + 65536))
		[ "$at" -lt $((32 * mib)) ] || lb_fail "there is space for everything"
	done
	lb_detach "$name"
	lb_check "$image"
	must_have_flags "$image" fine '["auto"]'
	echo "0 $at" >"$ranges"
	read_bitmap "$image" fine | granules 512 >/run/found
	granules 512 <"$ranges" | comm -13 <(sort /run/found) <(sort) >/run/missing
	[ ! -s /run/missing ] || lb_fail "what was written is not in the bitmap: $(head -n 3 /run/missing)"
	# It goes on recording.
	lb_attach "$name" "$image"
	qemu-io -f raw -t none -c "write -q 0 512" "$device" >/dev/null
	lb_detach "$name"
	must_have_flags "$image" fine '["auto"]'
}

# A suspend that fails, after bitmaps were called good or before, loses nothing of them.
part_suspend() {
	local ram image
	lb_step "a suspend that cannot write"
	ram=$(lb_ramdisk 64)
	dmsetup create lb-below --table "0 $(blockdev --getsz "$ram") linear $ram 0"
	dmsetup mknodes lb-below
	image=/dev/mapper/lb-below
	lb_image "$image" 32M
	make_bitmaps "$image"
	lb_attach "$name" "$image"
	write_some raw "$device" $((32 * mib)) 10
	dmsetup reload lb-below --table "0 $(blockdev --getsz "$ram") flakey $ram 0 0 60 1 error_writes"
	dmsetup resume lb-below
	mark_log
	dmsetup suspend "$name"
	must_be_logged "could not write all metadata"
	dmsetup reload lb-below --table "0 $(blockdev --getsz "$ram") linear $ram 0"
	dmsetup resume lb-below
	dmsetup resume "$name"
	must_have_flags "$image" usual '["in-use","auto"]'
	write_some raw "$device" $((32 * mib)) 10
	lb_detach "$name"
	all_recorded "$image"
	dmsetup remove lb-below
}

poke() { # FILE OFFSET BYTE...
	local file=$1 offset=$2
	shift 2
	printf '%b' "$(printf '\\x%02x' "$@")" | dd of="$file" bs=1 seek="$offset" conv=notrunc status=none
}

refused() { # WHAT-THE-LOG-SAYS IMAGE
	mark_log
	! dmsetup create refused --table "$(lb_table "$2")" 2>/dev/null || lb_fail "attached, although it $1"
	must_be_logged "$1"
	dmsetup create reader --table "$(lb_table "$2" read_only)" || lb_fail "not to be read, because it $1"
	dmsetup remove reader
}

# The directory of the only bitmap, and its table; fields as the specification numbers their bytes.
part_hostile() {
	local dir image directory table case
	lb_step "bitmaps that cannot be kept up to date"
	dir=$(lb_scratch 100 ext4)
	lb_image "$dir/good" 32M
	qemu-img bitmap --add -g 4k "$dir/good" only
	qemu-io -f qcow2 -c "write -q 0 8k" "$dir/good"
	directory=$(od -An -v -tx1 -w8 -N 4096 "$dir/good" | grep -n '^ 23 85 28 75 00 00 00 18$' | cut -d: -f1)
	directory=$(od -An -tu8 --endian=big -j $((directory * 8 + 16)) -N 8 "$dir/good" | tr -d ' ')
	table=$(od -An -tu8 --endian=big -j "$directory" -N 8 "$dir/good" | tr -d ' ')
	image=$dir/bad
	for case in "12 0x80 has unknown flags" "16 2 is of an unknown type" "17 8 has a granularity out of range" \
		"17 32 has a granularity out of range" "7 1 has its table at a place" "0 1 has its table at a place" \
		"8 1 is too large" "11 0 does not cover the disk" "20 1 ends past the end of the bitmap directory"; do
		read -r at value says <<<"$case"
		cp "$dir/good" "$image"
		poke "$image" $((directory + at)) "$value"
		refused "$says" "$image"
	done
	for case in "0 1 cannot read the bitmap" "7 2 cannot read the bitmap" "2 0x70 cannot read the bitmap"; do
		read -r at value says <<<"$case"
		cp "$dir/good" "$image"
		poke "$image" $((table + at)) "$value"
		refused "$says" "$image"
	done
	# Its data where the L1 table is, and its table where its own directory is.
	cp "$dir/good" "$image"
	dd if="$image" of="$image" bs=1 skip=40 seek="$table" count=8 conv=notrunc status=none
	refused "bitmap data .* overlaps other metadata" "$image"
	cp "$dir/good" "$image"
	dd if="$image" of="$image" bs=1 skip="$table" seek="$directory" count=8 conv=notrunc status=none
	refused "bitmap data .* is referenced twice|cannot read the bitmap" "$image"
	umount "$dir"
}

part_record() {
	local dir
	dir=$(lb_scratch 400 xfs)
	! lb_turn 0 || test_record "$dir/image" $((32 * mib))
	! lb_turn 0 || test_record "$dir/large" $((32 * mib + 512 * 5)) cluster_size=2M
	! lb_turn 1 || test_record "$dir/small" $((24 * mib)) cluster_size=4096 lazy_refcounts=on
	umount "$dir"
	! lb_turn 1 || test_record "$(lb_ramdisk 64)" $((32 * mib))
}

lb_load
for part in ${LIVEBLK_PARTS:-record crash space suspend hostile}; do
	"part_$part"
done
lb_unload
