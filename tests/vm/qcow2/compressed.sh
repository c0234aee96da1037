#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: compressed clusters, zlib and zstd: read, written over, discarded, damaged; each unpacked once, in bounded memory
# needs: qemu-img qemu-io dmsetup blkdiscard fallocate mkfs.ext4 gzip jq
# timeout: 900
# mem: 2G
# first: yes
#
# Environment: LIVEBLK_SEED; LIVEBLK_PARTS, some of "read change chain place hostile memory" (default all).
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh
# shellcheck source=tests/lib/random.sh
. tests/lib/random.sh
# shellcheck source=tests/lib/model.sh
. tests/lib/model.sh

mib=1048576
name=packed
device=/dev/mapper/$name
maint=$LIVEBLK_BUILD/bin/qcow2-maint
seed=${LIVEBLK_SEED:-$((RANDOM * 32768 + RANDOM))}
echo "seed $seed (LIVEBLK_SEED)"
random_seed "$seed"

# Text that is nowhere alike, with zeros in it and something that cannot be compressed.
make_source() { # FILE BYTES
	seq 1000000 3000000 | head -c "$2" >"$1" || true
	dd if=/dev/urandom of="$1" bs=64k seek=3 count=1 conv=notrunc status=none
	dd if=/dev/zero of="$1" bs=64k seek=9 count=2 conv=notrunc status=none
	truncate -s "$2" "$1"
}

compress() { # SOURCE IMAGE CLUSTER TYPE [OPTION]
	local type=",compression_type=$4"
	[[ ${5:-} != compat=0.10 ]] || type=''
	qemu-img convert -c -f raw -O qcow2 -o "cluster_size=$3$type${5:+,$5}" "$1" "$2" || lb_fail "cannot make $2"
}

compressed_clusters() { "$maint" info --json "$1" | jq '.usage."compressed-clusters"'; }
unpacked() { dmsetup status "${1:-$name}" | cut -d' ' -f18; }

# The clusters that were unpacked since there were BEFORE.
must_have_unpacked() { # BEFORE HOW-MANY WHEN
	local n=$(($(unpacked) - $1))
	[ "$n" = "$2" ] || lb_fail "$3, $n clusters were unpacked, not $2"
}

same_as() { cmp "$device" "$1" || lb_fail "$device does not read as $1"; } # FILE

fresh() { # what the next read finds was not read before
	sync
	blockdev --flushbufs "$device"
}

finish() { # IMAGE
	lb_detach "$name"
	lb_check "$1"
	qemu-img compare -q -f qcow2 -F raw "$1" "$model" || lb_fail "QEMU reads something else from $1"
}

read_in_pieces() { # CLUSTER TYPE [OPTION]
	local image=$dir/read.qcow2 before clusters i
	compress "$source" "$image" "$@"
	clusters=$(compressed_clusters "$image")
	((clusters > 2)) || lb_fail "only $clusters clusters are compressed"
	lb_attach "$name" "$image" read_only
	before=$(unpacked)
	dd if="$device" of="$dir/out" bs=4k iflag=direct status=none
	cmp "$dir/out" "$source" || lb_fail "read in pieces, it is something else"
	must_have_unpacked "$before" "$clusters" "read in pieces of 4 KiB"

	# Dropped by a suspend, and read by four at a time.
	dmsetup suspend "$name"
	dmsetup resume "$name"
	before=$(unpacked)
	local -a pids=()
	for i in 1 2 3 4; do
		dd if="$device" of="$dir/out$i" bs=$((i * 16384 - 4096)) iflag=direct status=none &
		pids+=($!)
	done
	wait "${pids[@]}"
	for i in 1 2 3 4; do cmp "$dir/out$i" "$source" || lb_fail "reader $i has got something else"; done
	must_have_unpacked "$before" "$clusters" "read by four"
	fresh
	same_as "$source"
	dd if="$device" bs=8M iflag=direct status=none | cmp - "$source" || lb_fail "read as a whole, it is something else"
	lb_detach "$name"
	lb_check "$image"
}

# Half of the kinds on each kernel, in the short form.
each_kind() { # FUNCTION
	local cluster type n
	n=$(lb_kernel_number)
	for type in zlib zstd; do
		for cluster in 4096 65536 2097152; do
			n=$((n + 1))
			[ "${LIVEBLK_FULL:-0}" = 1 ] || ((n % 2)) || continue
			lb_step "$type, clusters of $cluster, $1"
			"$1" "$cluster" "$type"
		done
	done
}

part_read() {
	each_kind read_in_pieces
	lb_step "version 2"
	read_in_pieces 65536 zlib compat=0.10
}

# Parts of clusters, whole ones, and what is in several.
write_over() { # CLUSTER
	local -a commands=()
	local i at len
	for ((i = 0; i < 25; i++)); do
		random_below $((size / 512 - 1024))
		at=$((REPLY * 512))
		random_below $((3 * $1 / 512 < 1000 ? 3 * $1 / 512 : 1000))
		len=$(((REPLY + 1) * 512))
		commands+=(-c "write -q -P $((i + 1)) $at $len")
	done
	commands+=(-c "write -q -P 77 $((2 * $1)) $1" -c "write -q -P 78 0 512" -c "write -q -P 79 $((size - 512)) 512")
	on_both "$name" "${commands[@]}"
}

change_image() { # CLUSTER TYPE [OPTION]
	local image=$dir/change.qcow2 before
	compress "$source" "$image" "$@"
	cp "$source" "$model"
	lb_attach "$name" "$image"
	# What is kept of a cluster is not what is read once it was written over.
	dd if="$device" of=/dev/null bs=1M iflag=direct status=none
	write_over "$1"
	fresh
	same_as_model "$name"
	# A discard leaves parts of clusters alone.
	zero_both "$name" $((2 * mib)) $(($1 > mib ? $1 : mib))
	zero_both "$name" $((3 * mib + 4096)) $((mib / 2 + 512)) -z
	zero_both "$name" 0 $((2 * $1 < mib ? 2 * $1 : mib)) -z
	fresh
	same_as_model "$name"

	dmsetup suspend "$name"
	lb_check "$image"
	qemu-img snapshot -c before "$image"
	cp "$model" "$model.before"
	dmsetup resume "$name"
	same_as_model "$name"
	write_over "$1"
	blk-copy "$device:$((15 * mib / 4 + 4096))" "$device:$mib" $((mib + 8192))
	dd if="$model" of="$model" bs=4k skip=$((15 * 64 + 1)) seek=256 count=258 conv=notrunc status=none
	zero_both "$name" $((4 * mib)) $(($1 > mib ? $1 : mib))
	fresh
	same_as_model "$name"
	finish "$image"
	rm -f "$dir/out"
	qemu-img convert -f qcow2 -O raw -l snapshot.name=before "$image" "$dir/out"
	cmp "$dir/out" "$model.before" || lb_fail "the snapshot has changed"
	"$maint" snapshot delete "$image" before || lb_fail "cannot delete the snapshot"
	lb_check "$image"

	# All of it, so that no reference to what was compressed is left.
	lb_attach "$name" "$image"
	on_both "$name" -c "write -q -P 3 0 $((4 * mib))"
	zero_both "$name" $((4 * mib)) $((size - 4 * mib))
	same_as_model "$name"
	dmsetup message "$name" 0 commit
	finish "$image"
	[ "$(compressed_clusters "$image")" = 0 ] || lb_fail "there are compressed clusters left"
}

part_change() {
	each_kind change_image
	lb_step "written anew by QEMU while it is suspended"
	rewritten zlib
	rewritten zstd
	lb_step "version 2, written over"
	change_image 65536 zlib compat=0.10
	lb_step "refcounts of 64 bits, lazy"
	change_image 65536 zlib refcount_bits=64,lazy_refcounts=on
}

# Other data of the same length, in the same place.
rewritten() { # TYPE
	bad=$dir/rewritten.qcow2
	rm -f "$bad"
	qemu-img create -q -f qcow2 -o "compression_type=$1" "$bad" 1M
	qemu-io -f qcow2 -c "write -q -c -P 1 0 64k" "$bad"
	local before
	before=$(number_at "$bad" "$(entry_at 0)")
	lb_attach "$name" "$bad"
	must_hold raw "$device" 1 0 64k
	dmsetup suspend "$name"
	qemu-io -f qcow2 -c "discard 0 64k" "$bad" >/dev/null
	qemu-io -f qcow2 -c "write -q -c -P 2 0 64k" "$bad"
	[ "$before" = "$(number_at "$bad" "$(entry_at 0)")" ] || lb_fail "QEMU has put it elsewhere"
	dmsetup resume "$name"
	must_hold raw "$device" 2 0 64k
	lb_detach "$name"
}

part_chain() {
	lb_step "in the layers of a chain"
	local base=$dir/base.qcow2 middle=$dir/middle.qcow2 top=$dir/top.qcow2 before i
	compress "$source" "$base" 65536 zstd
	qemu-img create -q -f qcow2 -o cluster_size=4096 -F qcow2 -b "$base" "$middle" "$size"
	for i in 1 5 17 33 64 100; do
		qemu-io -f qcow2 -c "write -q -c -P $i $((i * 8 * 4096)) 4096" "$middle"
	done
	qemu-img create -q -f qcow2 -o cluster_size=32768 -F qcow2 -b "$middle" "$top" $((size + mib))
	qemu-io -f qcow2 -c "write -q -c -P 9 $((3 * mib)) 32768" "$top"
	qemu-img convert -f qcow2 -O raw "$top" "$model"
	lb_attach "$name" "$top" backing qcow2 "$middle" backing qcow2 "$base"
	before=$(unpacked)
	same_as_model "$name"
	i=$(unpacked)
	((i > before)) || lb_fail "the status does not count what is unpacked below"
	size=$((size + mib)) write_over 32768
	zero_both "$name" $((4 * mib)) $mib -z
	fresh
	same_as_model "$name"
	dmsetup suspend "$name"
	dmsetup resume "$name"
	same_as_model "$name"
	finish "$top"
	lb_check "$middle"
	lb_check "$base"

	lb_step "one that several devices have below"
	for i in 1 2 3; do
		qemu-img create -q -f qcow2 -F qcow2 -b "$base" "$top.$i"
		lb_attach "$name$i" "$top.$i" backing qcow2 "$base"
	done
	before=$(unpacked "${name}1")
	for i in 1 2 3; do cmp "$device$i" "$source" & done
	wait
	[ $(($(unpacked "${name}2") - before)) = "$(compressed_clusters "$base")" ] ||
		lb_fail "clusters of a shared image were unpacked more than once"
	for i in 1 2 3; do lb_detach "$name$i"; done
	rm "$top".?
}

# The image ends with the compressed cluster, in a sector.
cut_image() { # FILE TYPE
	local bytes=$((mib + 512 * 5))
	truncate -s 0 "$model"
	truncate -s "$bytes" "$model"
	qemu-img create -q -f qcow2 -o "compression_type=$2" "$1" "$bytes"
	head -c 60000 "$source" >"$dir/last"
	head -c $((512 * 5)) "$source" | dd of="$model" bs=512 seek=$((mib / 512)) conv=notrunc status=none
	rm -f "$dir/small"
	head -c $((512 * 5)) "$source" >"$dir/small"
	qemu-io -f qcow2 -c "write -q -c -s $dir/small $mib $((512 * 5))" "$1"
}

compressed_on() { # DISK IMAGE
	dd if="$2" of="$1" bs=1M oflag=direct conv=sync status=none
	cp "$source" "$model"
	lb_attach "$name" "$1"
	same_as_model "$name"
	write_over 65536
	fresh
	same_as_model "$name"
	finish "$1"
}

part_place() {
	local type image=$dir/cut.qcow2 bytes
	for type in zlib zstd; do
		lb_step "$type, the last cluster is cut by the file's end"
		cut_image "$image" "$type"
		bytes=$(stat -c %s "$image")
		((bytes % 512)) || echo "QEMU has filled the sector up"
		lb_attach "$name" "$image"
		same_as_model "$name"
		on_both "$name" -c "write -q -P 4 $((mib + 512)) 1024"
		fresh
		same_as_model "$name"
		finish "$image"
	done
	lb_step "on a block device, and on one of 4096-byte sectors"
	compress "$source" "$image" 65536 zlib
	compressed_on "$(lb_ramdisk 64)" "$image"
	compressed_on "$(lb_4kn_disk 64)" "$image"
	rmmod scsi_debug
}

number_at() { od -An -v -tu8 --endian=big -j "$2" -N 8 "$1" | tr -d ' '; } # FILE OFFSET
# The L2 entry of a guest cluster, in an image of one L2 table.
entry_at() { echo $((($(number_at "$bad" "$(number_at "$bad" 40)") & 0xfffffffffffe00) + $1 * 8)); } # CLUSTER
poke_hex() { printf '%b' "${3//??/\\x&}" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; } # FILE OFFSET HEX
set_entry() { poke_hex "$bad" "$(entry_at "$1")" "$(printf %016x "$2")"; }                     # CLUSTER VALUE

# Something else in the place of the compressed cluster 1; all of it is this file.
instead() { # FILE
	local place
	place=$(($(number_at "$bad" "$(entry_at 1)") & 0x3fffffffffffff))
	dd if="$1" of="$bad" bs=1 seek="$place" conv=notrunc status=none
}

fresh_bad() { # TYPE
	rm -f "$bad"
	qemu-img create -q -f qcow2 -o "compression_type=$1" "$bad" 2M
	# So that what is put there has room in its sectors.
	head -c 65536 "$source" >"$dir/one"
	qemu-io -f qcow2 -c "write -q -c -s $dir/one 0 64k" -c "write -q -c -s $dir/one 64k 64k" \
		-c "write -q -c -s $dir/one 128k 64k" "$bad"
}

# Reading cluster 1 fails, is told once, and harms nothing else.
must_be_damaged() { # LOG-PATTERN WRITTEN-OVER (yes or no)
	lb_attach "$name" "$bad"
	mark_log
	must_give "Input/output error" if="$device" of=/dev/null bs=64k skip=1 count=1 iflag=direct
	must_be_logged "$1"
	must_give "Input/output error" if="$device" of=/dev/null bs=4k skip=17 count=1 iflag=direct
	[ "$(log_since_mark | grep -cE "qcow2:.*bad.qcow2")" = 1 ] || lb_fail "it was not told once: $(log_since_mark)"
	must_give "Input/output error" if=/dev/zero of="$device" bs=4k seek=17 count=1 oflag=direct
	dd if="$device" bs=64k count=1 iflag=direct status=none | cmp - "$dir/one" || lb_fail "cluster 0 is harmed"
	dd if="$device" bs=64k skip=2 count=1 iflag=direct status=none | cmp - "$dir/one" || lb_fail "cluster 2 is harmed"
	if [ "$2" = yes ]; then
		dd if=/dev/zero of="$device" bs=64k seek=1 count=1 oflag=direct status=none
		must_hold raw "$device" 0 64k 64k
		lb_detach "$name"
		lb_check "$bad"
	else
		must_give "Input/output error" if=/dev/zero of="$device" bs=64k seek=1 count=1 oflag=direct
		must_fail "Input/output error" blkdiscard -o 65536 -l 65536 "$device"
		lb_detach "$name"
	fi
}

must_be_good() { # BYTE
	lb_attach "$name" "$bad"
	must_hold raw "$device" "$1" 64k 64k
	lb_detach "$name"
	must_hold qcow2 "$bad" "$1" 64k 64k
}

deflated() { head -c "$2" /dev/zero | tr '\0' "$1" | gzip -n | tail -c +11 | head -c -8; } # BYTE BYTES

hostile_zlib() {
	local bytes damaged="damaged compressed cluster at host offset 0x[0-9a-f]+"
	lb_step "zlib: no stream, too short, cut; and more than a cluster, as QEMU takes it"
	fresh_bad zlib
	printf '\xff\xff\xff\xff' >"$dir/bytes"
	instead "$dir/bytes"
	must_be_damaged "$damaged" yes
	for bytes in 65535 1; do
		fresh_bad zlib
		deflated x "$bytes" >"$dir/bytes"
		instead "$dir/bytes"
		must_be_damaged "$damaged" yes
	done
	for bytes in 65536 65537 200000; do
		fresh_bad zlib
		deflated x "$bytes" >"$dir/bytes"
		instead "$dir/bytes"
		must_be_good 0x78
	done
	fresh_bad zlib
	set_entry 1 $(($(number_at "$bad" "$(entry_at 1)") & 0x403fffffffffffff))
	must_be_damaged "$damaged" yes
}

# A frame of one block of the same byte: 28b52ffd, descriptor 0, window, block header, byte.
frame() { # WINDOW-BYTE BYTES
	local h=$(($2 << 3 | 3))
	printf '%b' "\\x28\\xb5\\x2f\\xfd\\x00\\x$1$(printf '\\x%02x' $((h & 255)) $((h >> 8 & 255)) $((h >> 16)))x"
}

hostile_zstd() {
	local damaged="damaged compressed cluster at host offset 0x[0-9a-f]+"
	lb_step "zstd: no frame, too short, too long, a window of 1 GiB"
	fresh_bad zstd
	printf '\xff\xff\xff\xff' >"$dir/bytes"
	instead "$dir/bytes"
	must_be_damaged "$damaged" yes
	local what
	for what in "58 65535" "58 65537" "58 131072" "a0 65536" "f8 65536"; do
		fresh_bad zstd
		# shellcheck disable=SC2086
		frame $what >"$dir/bytes"
		instead "$dir/bytes"
		must_be_damaged "$damaged" yes
	done
	lb_step "zstd: a window of 2 MiB, and several frames, as QEMU takes them"
	fresh_bad zstd
	frame 58 65536 >"$dir/bytes"
	instead "$dir/bytes"
	must_be_good 0x78
	fresh_bad zstd
	{ frame 58 30000; frame 40 5536; frame 58 30000; } >"$dir/bytes"
	instead "$dir/bytes"
	must_be_good 0x78
}

hostile_places() {
	local value invalid="invalid L2 entry for guest offset 0x10000"
	lb_step "descriptors that lead elsewhere"
	fresh_bad zlib
	local compressed=$((1 << 62)) copied=$((1 << 63)) l1
	l1=$(number_at "$bad" 40)
	for value in $((compressed | 1 << 40)) $((compressed | 512)) $((compressed | l1 + 100)) \
		$((compressed | l1 - 512 | 1 << 54)) $((compressed | $(stat -c %s "$bad") - 512 | 255 << 54)) \
		$((copied | $(number_at "$bad" "$(entry_at 1)"))); do
		fresh_bad zlib
		set_entry 1 "$value"
		must_be_damaged "$invalid" no
	done
	lb_step "one without a reference"
	fresh_bad zlib
	local table block
	table=$(number_at "$bad" 48)
	block=$(number_at "$bad" "$table")
	poke_hex "$bad" $((block + 2 * ($(number_at "$bad" "$(entry_at 1)") >> 16 & 0xffff))) 0000
	lb_attach "$name" "$bad"
	mark_log
	must_give "Input/output error" if=/dev/zero of="$device" bs=64k seek=1 count=1 oflag=direct
	must_be_logged "compressed data in a cluster without a reference"
	lb_detach "$name"
}

part_hostile() {
	bad=$dir/bad.qcow2
	hostile_zlib
	hostile_zstd
	hostile_places
}

available() { awk '/^MemAvailable:/ { print $2 }' /proc/meminfo; }

part_memory() {
	lb_step "memory, with many readers of clusters of 2 MiB"
	local image=$dir/memory.qcow2 before least now i n
	local -a pids=()
	truncate -s 0 "$dir/big"
	for i in {1..14}; do cat "$source" >>"$dir/big"; done
	qemu-img convert -c -f raw -O qcow2 -o cluster_size=2M "$dir/big" "$image"
	lb_attach "$name" "$image" read_only
	echo 3 >/proc/sys/vm/drop_caches
	before=$(available) least=$before
	for ((i = 0; i < 24; i++)); do
		dd if="$device" of=/dev/null bs=1M skip=$((i * 3)) count=60 iflag=direct status=none &
		pids+=($!)
	done
	while kill -0 "${pids[0]}" 2>/dev/null; do
		now=$(available)
		((now > least)) || least=$now
		sleep 0.1
	done
	wait "${pids[@]}"
	echo "24 readers of 2 MiB clusters take $(((before - least) / 1024)) MiB at the most"
	((before - least < 220 * 1024)) || lb_fail "they take too much"

	lb_step "what is kept is given up when memory is short"
	dd if="$device" of=/dev/null bs=2M count=4 iflag=direct status=none
	n=$(unpacked)
	dd if="$device" of=/dev/null bs=2M count=4 iflag=direct status=none
	must_have_unpacked "$n" 0 "read again"
	for i in 1 2 3; do echo 2 >/proc/sys/vm/drop_caches; done
	dd if="$device" of=/dev/null bs=2M count=4 iflag=direct status=none
	must_have_unpacked "$n" 4 "after a reclaim"

	lb_step "suspended and resumed while it is read"
	pids=()
	for i in 0 1 2 3; do
		{ for n in 1 2 3; do dd if="$device" bs=64k iflag=direct status=none | cmp - "$dir/big" || exit 1; done; } &
		pids+=($!)
	done
	for ((i = 0; i < 12; i++)); do
		dmsetup suspend "$name"
		dmsetup resume "$name"
		echo 2 >/proc/sys/vm/drop_caches
		sleep 0.3
	done
	for i in "${pids[@]}"; do wait "$i" || lb_fail "a reader has got something else"; done
	lb_detach "$name"
}

export PATH=$LIVEBLK_BUILD/bin:$PATH
lb_load
dir=$(lb_scratch 300 ext4)
tmp=$(lb_scratch 400 tmpfs)
source=$tmp/source model=$tmp/model
size=$((6 * mib))
make_source "$source" $size
for part in ${LIVEBLK_PARTS:-read change chain place hostile memory}; do
	"part_$part"
done
lb_unload
