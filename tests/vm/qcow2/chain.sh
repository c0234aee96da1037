#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: images below others: any depth, size and cluster size, files and block devices, shared between devices, as QEMU reads them
# needs: qemu-img qemu-io dmsetup blkdiscard fallocate mkfs.ext4
# timeout: 600
# mem: 2G
# cpus: 1
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

overlay() { # FILE CLUSTER SIZE FORMAT BACKING [OPTION]
	qemu-img create -q -f qcow2 -o "cluster_size=$2${6:+,$6}" -F "$4" -b "$5" "$1" "$3" || lb_fail "no overlay $1"
}

scribble() { # FILE FORMAT BYTES HOW-MANY
	local commands
	choose_writes "$3" "$4"
	qemu-io -f "$2" "${commands[@]}" "$1" >/dev/null || lb_fail "qemu-io cannot write to $1"
}

# Another table for the device, which is suspended.
go_on_with() { # IMAGE [ARGUMENT...]
	dmsetup load chain --table "$(lb_table "$@")"
	dmsetup resume chain
	same_as_model chain
}

# What is below a device stays as it is for as long as that is live.
must_be_locked() { must_fail "lock" qemu-io -f qcow2 -c "write 0 512" "$1"; } # IMAGE

# A raw image that ends inside a block, a short one of small clusters above, the one that is attached on top.
test_history() { # BASE MIDDLE TOP SIZE [OPTION-OF-TOP]
	local base=$1 middle=$2 top=$3 size=$4 option=${5:-}
	scribble "$base" raw $((5 * mib + 512 * 3)) 60
	overlay "$middle" 4096 $((6 * mib + 512 * 5)) raw "$base"
	scribble "$middle" qcow2 $((6 * mib + 512 * 5)) 60
	overlay "$top" 65536 "$size" qcow2 "$middle" "$option"
	scribble "$top" qcow2 "$size" 20
	qemu-img convert -O raw "$top" "$model"
	lb_attach chain "$top" backing qcow2 "$middle" backing raw "$base"
	same_as_model chain
	write_both chain "$size" 60
	same_as_model chain
	zero_both chain $((mib / 2)) $((mib + 4096)) -z
	zero_both chain $((3 * mib)) 131072 -z
	[ -n "$option" ] || zero_both chain $((4 * mib)) $((2 * mib))
	zero_both chain $((size - 512)) 512 -z
	same_as_model chain
	write_both chain "$size" 40
	dmsetup suspend chain
	dmsetup resume chain
	same_as_model chain
	lb_detach chain
	lb_check "$top"
	qemu-img compare -q -f qcow2 -F raw "$top" "$model" || lb_fail "QEMU reads something else than the device"
}

raw_base() { # FILE
	truncate -s $((5 * mib + 512 * 3)) "$1"
}

test_files() { # FILE-SYSTEM
	local dir
	lb_step "a chain of files on $1"
	dir=$(lb_scratch 300 "$1")
	raw_base "$dir/base"
	test_history "$dir/base" "$dir/middle.qcow2" "$dir/top.qcow2" $((8 * mib))
	if [ "$1" = ext4 ]; then
		lb_step "the same with a top of version 2"
		rm "$dir"/base "$dir"/*.qcow2
		raw_base "$dir/base"
		test_history "$dir/base" "$dir/middle" "$dir/top.qcow2" $((8 * mib)) compat=0.10
	fi
	umount "$dir"
}

test_block_devices() {
	local dir disk base deps middle=$((6 * mib + 2560)) size=$((20 * mib))
	lb_step "a base and a middle on block devices, one of 4096-byte sectors"
	dir=$(lb_scratch 100 ext4)
	base=$(lb_4kn_disk 16)
	disk=$(lb_ramdisk 32)
	head -c $((5 * mib)) /dev/urandom | dd of="$base" bs=1M iflag=fullblock oflag=direct status=none
	qemu-img create -q -f qcow2 -o cluster_size=4096 -F raw -b "$base" "$disk" $middle
	scribble "$disk" qcow2 $middle 60
	# Copy-on-write of clusters that are larger than its buffer, too.
	overlay "$dir/top" 1048576 $size qcow2 "$disk"
	scribble "$dir/top" qcow2 $size 20
	qemu-img convert -O raw "$dir/top" "$model"
	lb_attach chain "$dir/top" backing qcow2 "$disk" backing raw "$base"
	same_as_model chain
	deps=$(dmsetup deps -o devname chain)
	[[ $deps == *"(${base##*/})"* && $deps == *"(${disk##*/})"* ]] || lb_fail "what it depends on: $deps"
	write_both chain $size 60
	same_as_model chain
	# Over the end of the middle, which is inside a block of the base's disk.
	blk-copy /dev/mapper/chain:5m /dev/mapper/chain:12m 2m
	dd if="$model" of="$model" bs=1M skip=5 seek=12 count=2 conv=notrunc status=none
	same_as_model chain
	lb_detach chain
	qemu-img compare -q -f qcow2 -F raw "$dir/top" "$model"
	test_base_in_use "$dir" "$base"
	rmmod scsi_debug
	umount "$dir"
}

# Somebody has the block device to himself.
test_base_in_use() { # DIRECTORY BASE
	mkfs.ext4 -q -F "$2"
	mkdir -p /run/mounted
	mount "$2" /run/mounted
	overlay "$1/over" 65536 16M raw "$2"
	refused "cannot use the backing image $2: error -16" "$1/over" backing raw "$2"
	umount /run/mounted
}

# Zeroing has to look at all that shows through a cluster, which may be in small pieces.
test_zeroes_over_pieces() {
	local dir at option
	lb_step "zeroes over a base of smaller clusters"
	dir=$(lb_scratch 100 ext4)
	for option in compat=1.1 compat=0.10; do
		rm -f "$dir/base" "$dir/top"
		qemu-img create -q -f qcow2 -o cluster_size=4096 "$dir/base" $((2 * mib + 2560))
		for ((at = 4096; at < 2 * mib; at += 8192)); do echo "write -q -P 9 $at 4096"; done |
			qemu-io -f qcow2 "$dir/base" >/dev/null
		overlay "$dir/top" 65536 4M qcow2 "$dir/base" "$option"
		qemu-img convert -O raw "$dir/top" "$model"
		lb_attach chain "$dir/top" backing qcow2 "$dir/base"
		zero_both chain 65536 8192 -z
		zero_both chain 196608 131072 -z
		zero_both chain $((2 * mib)) 4096 -z
		same_as_model chain
		write_both chain $((4 * mib)) 20
		same_as_model chain
		lb_detach chain
		lb_check "$dir/top"
	done
	umount "$dir"
}

# What the chain is may change while the device is suspended.
test_rebase() {
	local dir
	lb_step "a layer that is taken out while it is suspended"
	dir=$(lb_scratch 100 ext4)
	qemu-img create -q -f qcow2 "$dir/base" 4M
	scribble "$dir/base" qcow2 $((4 * mib)) 20
	overlay "$dir/middle" 65536 4M qcow2 "$dir/base"
	overlay "$dir/top" 65536 4M qcow2 "$dir/middle"
	lb_attach chain "$dir/top" backing qcow2 "$dir/middle" backing qcow2 "$dir/base"
	qemu-img convert -O raw "$dir/base" "$model"
	same_as_model chain
	dmsetup suspend chain
	qemu-img rebase -f qcow2 -F qcow2 -b '' "$dir/middle"
	go_on_with "$dir/top" backing qcow2 "$dir/middle"
	lb_detach chain
	umount "$dir"
}

test_shared() {
	local dir i
	lb_step "one base below several devices"
	dir=$(lb_scratch 300 xfs)
	qemu-img create -q -f qcow2 "$dir/base" 16M
	scribble "$dir/base" qcow2 $((16 * mib)) 100
	for i in 1 2 3; do
		overlay "$dir/top$i" 65536 16M qcow2 "$dir/base"
		lb_attach "chain$i" "$dir/top$i" backing qcow2 "$dir/base"
	done
	qemu-img convert -O raw "$dir/base" "$model"
	for i in 1 2 3; do same_as_model "chain$i"; done
	must_be_locked "$dir/base"
	qemu-img compare -q -f qcow2 -F raw "$dir/base" "$model" || lb_fail "QEMU may not read the base"
	for i in 1 2 3; do dd if=/dev/urandom of="/dev/mapper/chain$i" bs=4k seek=$((i * 50)) count=20 oflag=direct status=none; done
	dmsetup suspend chain1
	must_be_locked "$dir/base"
	dmsetup resume chain1
	for i in 1 2; do lb_detach "chain$i"; done
	must_be_locked "$dir/base"
	lb_detach chain3
	qemu-img compare -q -f qcow2 -F raw "$dir/base" "$model" || lb_fail "the base has changed"
	for i in 1 2 3; do lb_check "$dir/top$i"; done
	qemu-io -f qcow2 -c "write -P 7 0 64k" "$dir/base" >/dev/null || lb_fail "the base is still locked"
	qemu-img convert -O raw "$dir/top1" "$model"
	lb_attach chain1 "$dir/top1" backing qcow2 "$dir/base"
	same_as_model chain1
	lb_detach chain1
	umount "$dir"
}

test_new_top() {
	local dir
	lb_step "a new top while it is in use"
	dir=$(lb_scratch 300 ext4)
	qemu-img create -q -f qcow2 "$dir/base" 16M
	qemu-img convert -O raw "$dir/base" "$model"
	lb_attach chain "$dir/base"
	write_both chain $((16 * mib)) 40
	dmsetup suspend chain
	overlay "$dir/top" 65536 16M qcow2 "$dir/base"
	go_on_with "$dir/top" backing qcow2 "$dir/base"
	write_both chain $((16 * mib)) 40
	same_as_model chain
	dmsetup table chain >/run/table
	lb_detach chain
	dmsetup create chain </run/table || lb_fail "the table cannot be loaded again: $(cat /run/table)"
	same_as_model chain
	lb_detach chain
	lb_check "$dir/top"
	umount "$dir"
}

refused() { # WHAT-THE-LOG-SAYS IMAGE [ARGUMENT]...
	local says=$1
	shift
	dmesg -C
	! dmsetup create refused --table "$(lb_table "$@")" 2>/dev/null || lb_fail "attached: $*"
	dmesg | grep -qE "$says" || lb_fail "the log does not say '$says': $(dmesg | tail -n 5)"
}

test_refusals() {
	local dir
	lb_step "tables that do not fit the headers"
	dir=$(lb_scratch 100 ext4)
	raw_base "$dir/raw"
	qemu-img create -q -f qcow2 "$dir/plain" 8M
	overlay "$dir/over" 65536 8M qcow2 "$dir/plain"
	overlay "$dir/over-raw" 65536 8M raw "$dir/raw"
	overlay "$dir/twice" 65536 8M qcow2 "$dir/over"
	refused "has the backing file .*plain.*, but the table has none" "$dir/over"
	refused "table has the backing image .*raw, but the image has none" "$dir/plain" backing raw "$dir/raw"
	refused "table has the raw backing image .*plain, but the image has .*plain.* of format .*qcow2" "$dir/over" backing raw "$dir/plain"
	refused "table has the qcow2 backing image .*plain, but the image has .*raw" "$dir/over-raw" backing qcow2 "$dir/plain"
	refused "has the backing file .*plain.*, but the table has none" "$dir/twice" backing qcow2 "$dir/over"
	refused "raw image has no backing file" "$dir/over-raw" backing raw "$dir/raw" backing raw "$dir/plain"
	refused "in the chain already" "$dir/over" backing qcow2 "$dir/over"
	refused "in the chain already" "$dir/twice" backing qcow2 "$dir/over" backing qcow2 "$dir/over"
	refused "cannot open the backing image .*absent" "$dir/over" backing qcow2 "$dir/absent"
	refused "not a QCOW2 image" "$dir/over" backing qcow2 "$dir/raw"
	lb_attach writer "$dir/plain"
	refused "in use elsewhere" "$dir/over" backing qcow2 "$dir/plain"
	# Nor is what is above the writer's left locked.
	refused "in use elsewhere" "$dir/twice" backing qcow2 "$dir/over" backing qcow2 "$dir/plain"
	lb_detach writer
	qemu-io -f qcow2 -c "write -q 0 512" "$dir/over" || lb_fail "it is still locked"
	lb_attach unlocked "$dir/over" no_lock backing qcow2 "$dir/plain"
	overlay "$dir/other" 65536 8M qcow2 "$dir/plain"
	refused "with no_lock, so that others may have written" "$dir/other" backing qcow2 "$dir/plain"
	lb_detach unlocked
	lb_attach over "$dir/over" backing qcow2 "$dir/plain"
	refused "in use elsewhere" "$dir/plain"
	lb_detach over
	umount "$dir"
}

test_depth() {
	local dir i words=() layers=32
	lb_step "$layers layers"
	dir=$(lb_scratch 400 xfs)
	qemu-img create -q -f qcow2 "$dir/0" 16M
	for ((i = 1; i <= layers; i++)); do
		overlay "$dir/$i" 65536 16M qcow2 "$dir/$((i - 1))"
		scribble "$dir/$i" qcow2 $((16 * mib)) 3
		words=(backing qcow2 "$dir/$((i - 1))" "${words[@]}")
	done
	qemu-img convert -O raw "$dir/$layers" "$model"
	lb_attach chain "$dir/$layers" "${words[@]}"
	same_as_model chain
	write_both chain $((16 * mib)) 40
	same_as_model chain
	lb_detach chain
	lb_check "$dir/$layers"
	qemu-img compare -q -f qcow2 -F raw "$dir/$layers" "$model"
	umount "$dir"
}

export PATH=$LIVEBLK_BUILD/bin:$PATH
mib=1048576
model=/run/model
lb_load
for fs in xfs ext4 btrfs; do test_files "$fs"; done
test_block_devices
test_zeroes_over_pieces
test_rebase
test_shared
test_new_top
test_refusals
test_depth
lb_unload
