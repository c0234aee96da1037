#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: 200 images of random kinds, edited by qcow2-maint and qemu-img in turn, checked and compared with a model
set -eu -o pipefail
# shellcheck source=tests/runner/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/maint/lib.sh
. "$repo/tests/maint/lib.sh"

images=${LIVEBLK_IMAGES:-200} edits=3 compare_each=''
if [ "${LIVEBLK_FULL:-0}" = 1 ]; then images=3000 edits=12 compare_each=yes; fi
seed=${LIVEBLK_SEED:-$RANDOM}

image=$work/image.qcow2
model=$work/model # a raw file for the disk; one more for each snapshot
snapshots=()
backing=()
what=''
declare -A tally=()
# What an edit may be refused for: there is no room for it in this image, or it is not there and says so.
may_refuse='bits is full|is not recorded|persistent bitmaps|backing file has|holds data after that|more than an image can have|is cut by the size of [0-9]+ bytes and compressed'

size_of_model() { size=$(stat -c %s "$model"); }

random_image() {
	local options shift half
	random_pick shift 9 9 10 12 12 14 16 16 16 18 21
	cluster=$((1 << shift)) v2='' bits=16
	options=cluster_size=$cluster
	if random_percent 20; then
		options+=,compat=0.10 v2=yes
	else
		random_pick bits 1 2 4 8 16 16 16 32 64
		options+=,refcount_bits=$bits
		if [ "$shift" -ge 14 ] && random_percent 40; then options+=,extended_l2=on; fi
		if random_percent 20; then options+=,lazy_refcounts=on; fi
		if random_percent 20; then options+=,compression_type=zstd; fi
	fi
	random_below 64
	size=$(((REPLY + 2) * 32768))
	[ "$shift" -lt 21 ] || size=$((size * 4))
	rm -f "$model"*
	truncate -s "$size" "$model"
	backing=()
	if random_percent 25; then
		half=$((size / 2 / 512 * 512))
		must qemu-io -f raw -c "write -P 77 0 $half" "$model"
		head -c "$half" "$model" >"$work/backing"
		backing=(-b "$work/backing" -F raw)
	fi
	snapshots=()
	what="image $number: $options size $size ${backing[*]-}"
	must qemu-img create -q -f qcow2 -o "$options" ${backing[@]+"${backing[@]}"} "$image" "$size"
	bitmaps=''
	if [ -z "$v2" ] && random_percent 10; then
		bitmaps=yes
		must qemu-img bitmap --add "$image" some
	fi
}

# The same writes to the image and to the model.
write_some() {
	local left offset length pattern command commands=()
	size_of_model
	random_below 5
	for ((left = REPLY; left >= 0; left--)); do
		random_below $((size / 512)); offset=$((REPLY * 512))
		random_below 200; length=$(((REPLY + 1) * 512))
		[ $((offset + length)) -le "$size" ] || length=$((size - offset))
		random_below 254; pattern=$((REPLY + 1))
		command="write -P $pattern $offset $length"
		if random_percent 15; then command="write -z $offset $length"; fi
		commands+=(-c "$command")
	done
	must qemu-io -f qcow2 "${commands[@]}" "$image"
	must qemu-io -f raw "${commands[@]}" "$model"
	# Several compressed clusters share one of the host, so refcounts must have room.
	if [ "$bits" -ge 8 ] && random_percent 50; then write_compressed; fi
}

# Whole clusters; QEMU refuses to put one in the place of a cluster that it could write to.
write_compressed() {
	local i at
	for i in 1 2 3; do
		random_below $((size / cluster + 1)); at=$((REPLY * cluster))
		[ $((at + cluster)) -le "$size" ] || continue
		run qemu-io -f qcow2 -c "write -c -P $((200 + i)) $at $cluster" "$image" || continue
		must qemu-io -f raw -c "write -P $((200 + i)) $at $cluster" "$model"
	done
}

# Runs an edit of qcow2-maint. False if it was refused, with nothing changed, for a reason that is known.
maint_edit() { # WORD...
	local status=0
	cp "$image" "$work/untouched"
	run "$maint" "$@" || status=$?
	tally[maint]=$((${tally[maint]:-0} + 1))
	[ "$status" -ne 0 ] || return 0
	if [ "$status" -ne 1 ] || ! grep -qE "$may_refuse" "$work/err"; then fail "$what: ended with $status"; fi
	cmp "$image" "$work/untouched" || fail "$what: refused, but something has changed"
	tally[refused]=$((${tally[refused]:-0} + 1))
	return 1
}

qemu_edit() {
	tally[qemu]=$((${tally[qemu]:-0} + 1))
	must qemu-img "$@"
}

# QEMU counts the new reference before it drops the old one, for which narrow refcounts have no room.
qemu_has_room() { [ "$bits" -ge 8 ] || [ $((${#snapshots[@]} + 2)) -lt $((1 << bits)) ]; }

create() { # maint|qemu
	local name=s$((next_name += 1))
	case $1 in
	maint) maint_edit snapshot create "$image" "$name" || return 0 ;;
	qemu)
		qemu_has_room || return 0
		qemu_edit snapshot -c "$name" "$image" ;;
	esac
	cp "$model" "$model.$name"
	snapshots+=("$name")
}

delete() {
	local name i
	random_pick name "${snapshots[@]}"
	case $1 in
	maint) maint_edit snapshot delete "$image" "$name" || return 0 ;;
	qemu) qemu_edit snapshot -d "$name" "$image" ;;
	esac
	for i in "${!snapshots[@]}"; do [ "${snapshots[i]}" != "$name" ] || unset "snapshots[$i]"; done
	snapshots=(${snapshots[@]+"${snapshots[@]}"})
}

revert() {
	local name
	random_pick name "${snapshots[@]}"
	case $1 in
	maint) maint_edit snapshot revert "$image" "$name" || return 0 ;;
	qemu)
		[ -z "$bitmaps" ] && qemu_has_room || return 0
		qemu_edit snapshot -a "$name" "$image" ;;
	esac
	cp "$model.$name" "$model"
}

rename() {
	local name i new=r$((next_name += 1))
	random_pick name "${snapshots[@]}"
	maint_edit snapshot rename "$image" "$name" "$new"
	mv "$model.$name" "$model.$new"
	for i in "${!snapshots[@]}"; do [ "${snapshots[i]}" != "$name" ] || snapshots[i]=$new; done
}

resize() {
	local by=$1 new
	size_of_model
	random_below 4000; new=$(((REPLY + 1) * 512))
	# What qemu-img lets come into sight behind a size that cuts a cluster is no zeros.
	if [ $((size % cluster)) -ne 0 ]; then by=maint; fi
	case $by in
	maint) maint_edit resize --shrink "$image" "$new" || return 0 ;;
	qemu)
		new=$(((new + cluster - 1) / cluster * cluster))
		if [ -n "$v2" ] && [ ${#snapshots[@]} -gt 0 ]; then return 0; fi
		# What is below would come into sight there, and version 2 has no zero clusters to hide it.
		if [ -n "$v2" ] && [ ${#backing[@]} -gt 0 ] && [ "$new" -gt "$size" ]; then return 0; fi
		qemu_edit resize -q --shrink "$image" "$new" ;;
	esac
	truncate -s "$new" "$model"
}

compare() {
	local name common
	size_of_model
	extract "$image" "$work/raw"
	cmp "$work/raw" "$model" || fail "$what: the disk is not what it should be"
	for name in ${snapshots[@]+"${snapshots[@]}"}; do
		extract "$image" "$work/raw" "$name"
		# qemu-img shows as much of a snapshot as the disk has now.
		common=$(stat -c %s "$model.$name")
		[ "$common" -le "$size" ] || common=$size
		cmp -n "$common" "$work/raw" "$model.$name" || fail "$what: snapshot $name is not what it should be"
	done
}

# Both see the same: no error, and the same snapshots.
agree() {
	must_be_sound "$image"
	must "$maint" check "$image"
	[ "$(snapshot_names "$image" | tr '\n' ' ')" = "${snapshots[*]}${snapshots[*]:+ }" ] || fail "$what: other snapshots"
}

random_edit() {
	local edit by
	random_pick edit create create create delete revert rename resize resize
	random_pick by maint maint qemu
	case $edit in delete | revert | rename) [ ${#snapshots[@]} -gt 0 ] || edit=create ;; esac
	what+="; $by $edit"
	"$edit" "$by"
	agree
	if [ -n "$compare_each" ]; then compare; fi
	if random_percent 60; then what+="; write"; write_some; fi
}

echo "seed: $seed (LIVEBLK_SEED)"
random_seed "$seed"
next_name=0
for ((number = 1; number <= images; number++)); do
	random_image
	write_some
	for ((edit_number = 0; edit_number < edits; edit_number++)); do random_edit; done
	compare
done
echo "$images images; edits by qcow2-maint: ${tally[maint]}, refused ${tally[refused]:-0}; by qemu-img: ${tally[qemu]}"
