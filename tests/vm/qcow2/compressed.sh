#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: compressed clusters, zlib and zstd: read by many, each unpacked once, in bounded memory, in all layers
# needs: qemu-img qemu-io dmsetup blkdiscard fallocate mkfs.ext4 jq
# timeout: 600
# mem: 2G
# first: yes
#
# Environment: LIVEBLK_SEED; LIVEBLK_PARTS, some of "read chain memory" (default all).
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/compressed.sh
. tests/lib/compressed.sh

# The clusters that were unpacked since there were BEFORE.
must_have_unpacked() { # BEFORE HOW-MANY WHEN
	local n=$(($(unpacked) - $1))
	[ "$n" = "$2" ] || lb_fail "$3, $n clusters were unpacked, not $2"
}

same_as() { cmp "$device" "$1" || lb_fail "$device does not read as $1"; } # FILE

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

part_read() {
	each_kind read_in_pieces
	lb_step "version 2"
	read_in_pieces 65536 zlib compat=0.10
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

available() { awk '/^MemAvailable:/ { print $2 }' /proc/meminfo; }

part_memory() {
	lb_step "memory, with many readers of clusters of 2 MiB"
	local image=$dir/memory.qcow2 before least now i n
	local -a pids=()
	truncate -s 0 "$dir/big"
	for i in {1..8}; do cat "$source" >>"$dir/big"; done
	qemu-img convert -c -f raw -O qcow2 -o cluster_size=2M "$dir/big" "$image"
	lb_attach "$name" "$image" read_only
	echo 3 >/proc/sys/vm/drop_caches
	before=$(available) least=$before
	for ((i = 0; i < 24; i++)); do
		dd if="$device" of=/dev/null bs=1M skip=$((i * 2)) count=16 iflag=direct status=none &
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
		{ for n in 1 2; do dd if="$device" bs=64k iflag=direct status=none | cmp - "$dir/big" || exit 1; done; } &
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

begin_packed
for part in ${LIVEBLK_PARTS:-read chain memory}; do
	"part_$part"
done
lb_unload
