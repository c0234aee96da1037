#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: guest data in an external data file, raw or not, in files and on block devices, as QEMU reads and writes it
# needs: qemu-img qemu-io dmsetup blkdiscard fallocate jq
# cpus: 1
# timeout: 1500
# mem: 2G
# first: yes
#
# Environment: LIVEBLK_SEED; LIVEBLK_PARTS, some of "files blocks refusals hostile space tool reload" (default all).
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

# An image whose data is in DATA.
external() { # IMAGE DATA SIZE RAW OPTION...
	local image=$1 data=$2 size=$3 raw=$4
	shift 4
	[ "$raw" = no ] || set -- "$@" data_file_raw=on
	lb_image "$image" "$size" "data_file=$data" "$@"
}

# The same by QEMU to the image, nobody else having it, and to the model.
write_both_offline() { # IMAGE BYTES HOW-MANY
	local commands
	choose_writes "$2" "$3"
	qemu-io -f qcow2 "${commands[@]}" "$1" >/run/qemu-io || lb_fail "qemu-io cannot write to $1: $(cat /run/qemu-io)"
	qemu-io -f raw "${commands[@]}" "$model" >/dev/null
}

# What everybody else sees, while the device is suspended or gone. A raw data file is the disk, byte for byte.
others_see_the_model() { # IMAGE DATA SIZE RAW
	lb_check "$1"
	qemu-img compare -q -f qcow2 -F raw "$1" "$model" || lb_fail "QEMU reads something else"
	[ "$4" = yes ] || return 0
	cmp -n "$3" "$2" "$model" || lb_fail "the data file does not hold the disk"
	qemu-img info -U --output=json "$1" | jq -e '."format-specific".data."data-file-raw"' >/dev/null ||
		lb_fail "the data file is not raw any more"
}

# Writes, zeroes and discards of whole clusters, and of parts, with a look by QEMU in between.
test_history() { # IMAGE DATA SIZE RAW
	local image=$1 data=$2 size=$3 raw=$4 unmap=(discard -q) option='' whole=$3
	# What a disk without write-zeroes holds after a discard is its own affair, and a raw data file is the disk.
	if [ "$raw" = yes ] && [ -b "$data" ]; then unmap=(write -q -z) option=-z; fi
	# QEMU fills a new cluster to its end, and so cannot write to one that a device has but a part of.
	[ ! -b "$data" ] || whole=$((size / 65536 * 65536))
	truncate -s 0 "$model"
	truncate -s "$size" "$model"
	write_both_offline "$image" "$whole" 10
	lb_attach data "$image" data_file "$data"
	same_as_model data
	write_both data "$size" 30
	same_as_model data
	zero_both data $((mib / 2)) $((mib + 4096)) -z
	zero_both data $((3 * mib)) 131072 -z
	zero_both data $((4 * mib)) $((2 * mib)) $option
	zero_both data $((size - 512)) 512 -z
	same_as_model data
	write_both data "$size" 20
	same_as_model data
	dmsetup suspend data
	others_see_the_model "$image" "$data" "$size" "$raw"
	write_both_offline "$image" "$whole" 10
	qemu-io -f qcow2 -c "write -q -z 1M 256k" -c "write -q -zu 6M 192k" -c "${unmap[*]} 2M 2M" "$image" >/dev/null
	qemu-io -f raw -c "write -q -z 1M 256k" -c "write -q -zu 6M 192k" -c "write -q -z 2M 2M" "$model" >/dev/null
	dmsetup resume data
	same_as_model data
	write_both data "$size" 20
	zero_both data $((4 * mib)) $((2 * mib)) $option
	write_both data "$size" 10
	same_as_model data
	dmsetup table data >/run/table
	lb_detach data
	others_see_the_model "$image" "$data" "$size" "$raw"
	dmsetup create data </run/table || lb_fail "the table cannot be loaded again: $(cat /run/table)"
	same_as_model data
	lb_detach data
}

test_files() { # FILE-SYSTEM RAW SIZE OPTION...
	local dir fs=$1 raw=$2 size=$3
	shift 3
	lb_step "a data file on $fs, raw: $raw, $size bytes ${*:-}"
	dir=$(lb_scratch 300 "$fs")
	external "$dir/image" "$dir/data" "$size" "$raw" "$@"
	test_history "$dir/image" "$dir/data" "$size" "$raw"
	umount "$dir"
}

# The image on a device, too, and the data on disks of sectors of both sizes.
part_blocks() {
	local size=$((8 * mib + 512 * 5)) image disk raw small deps
	image=$(lb_ramdisk 16)
	small=$(lb_ramdisk 4)
	for raw in no yes; do
		lb_step "data on a block device that ends in a cluster, raw: $raw"
		disk=lb-data
		dmsetup create $disk --table "0 $((size / 512)) linear $(lb_ramdisk 16) 0"
		dmsetup mknodes $disk
		disk=/dev/mapper/$disk
		blkdiscard -z "$disk"
		# QEMU would have a raw one hold the last cluster as a whole, to have them all there.
		external "$image" "$disk" "$size" no
		[ "$raw" = no ] || lb_raw_bit "$image"
		test_history "$image" "$disk" "$size" "$raw"
		lb_attach data "$image" data_file "$disk"
		deps=$(dmsetup deps -o devname data)
		[[ $deps == *"(${disk##*/})"* ]] || lb_fail "what it depends on: $deps"
		lb_detach data
		dmsetup remove lb-data
	done
	refused "raw data file has 4194304 bytes" "$image" data_file "$small"
	lb_step "raw data on a disk of 4096-byte sectors"
	disk=$(lb_4kn_disk 16)
	external "$image" "$disk" $((8 * mib)) yes
	blkdiscard -z "$disk"
	test_history "$image" "$disk" $((8 * mib)) yes
	rmmod scsi_debug
}

refused() { # WHAT-THE-LOG-SAYS IMAGE [ARGUMENT]...
	local says=$1
	shift
	dmesg -C
	! dmsetup create refused --table "$(lb_table "$@")" 2>/dev/null || lb_fail "attached: $*"
	dmesg | grep -qE "$says" || lb_fail "the log does not say '$says': $(dmesg | tail -n 5)"
}

part_refusals() {
	local dir
	lb_step "tables that do not fit the header, and files that others have"
	dir=$(lb_scratch 100 ext4)
	lb_image "$dir/plain" 8M
	external "$dir/image" "$dir/data" 8M no
	external "$dir/raw" "$dir/raw-data" 8M yes
	refused "has the external data file .*data.*, but the table has no data_file" "$dir/image"
	refused "table has the data_file .*data, but the image has no external data file" "$dir/plain" data_file "$dir/data"
	refused "data_file needs an image" "$dir/image" data_file
	refused "data_file needs an image" "$dir/image" data_file "$dir/data" data_file "$dir/data"
	refused "cannot open the data file .*absent" "$dir/image" data_file "$dir/absent"
	refused "data file .*image is the image" "$dir/image" data_file "$dir/image"
	qemu-img create -q -f qcow2 -F qcow2 -b "$dir/image" "$dir/over" 8M
	refused "data file .*data.* of an image below another one" "$dir/over" backing qcow2 "$dir/image"
	# A data file is locked as the image is, by whichever of them it is looked for.
	lb_attach data "$dir/image" data_file "$dir/data"
	must_fail "lock" qemu-io -f raw -c "write 0 512" "$dir/data"
	must_fail "lock" qemu-img check "$dir/image"
	cp "$dir/image" "$dir/copy"
	refused "data: Failed to get .* lock" "$dir/copy" data_file "$dir/data"
	# As raw, so that its data file, which is locked, is not opened.
	qemu-io -f raw -c "read -q 0 512" "$dir/copy" || lb_fail "the image of a table that was refused is still locked"
	dmsetup suspend data
	qemu-io -f raw -c "write -q 0 512" "$dir/data" || lb_fail "the data file is still locked"
	dmsetup resume data
	lb_detach data
	# The raw bit goes with a backing file in no image that QEMU makes.
	qemu-img rebase -q -u -F qcow2 -b "$dir/plain" "$dir/image"
	lb_raw_bit "$dir/image"
	refused "is raw, which a backing file rules out" "$dir/image" data_file "$dir/data" backing qcow2 "$dir/plain"
	umount "$dir"
}

# What is written that a write may read reads as zeros or as it was, not as another guest cluster.
part_hostile() {
	local dir l2
	lb_step "entries that are not where the guest sees them"
	dir=$(lb_scratch 100 ext4)
	external "$dir/image" "$dir/data" 8M no
	qemu-io -f qcow2 -c "write -q -P 1 0 1M" "$dir/image"
	l2=$(od -An -tu8 --endian=big -j "$(od -An -tu8 --endian=big -j 40 -N 8 "$dir/image" | tr -d ' ')" -N 8 "$dir/image" | tr -d ' ')
	l2=$(printf '%d' "$((0x$(printf '%x' "$l2") & 0xfffffffffffe00))")
	printf '\200\0\0\0\0\011\0\0' | dd of="$dir/image" bs=1 seek=$((l2 + 8 * 5)) conv=notrunc status=none
	printf '\0\0\0\0\0\006\0\0' | dd of="$dir/image" bs=1 seek=$((l2 + 8 * 6)) conv=notrunc status=none
	lb_attach data "$dir/image" data_file "$dir/data"
	must_give "Input/output error" if=/dev/mapper/data of=/dev/null bs=64k skip=5 count=1 iflag=direct
	must_give "Input/output error" if=/dev/zero of=/dev/mapper/data bs=64k seek=5 count=1 oflag=direct
	qemu-io -f raw -t none -c "read -q -P 1 384k 64k" -c "write -q -P 2 388k 4k" -c "read -q -P 1 384k 4k" \
		-c "read -q -P 2 388k 4k" -c "read -q -P 1 392k 4k" /dev/mapper/data
	lb_detach data
	must_hold qcow2 "$dir/image" 2 $((388 * 1024)) 4096
	# The first cluster is at 0, which elsewhere means none; what is behind it was never written.
	rm "$dir"/image "$dir"/data
	external "$dir/image" "$dir/data" 8M no
	qemu-io -f qcow2 -c "write -q -P 1 0 64k" "$dir/image"
	qemu-io -f raw -c "write -q -P 9 64k 1M" "$dir/data"
	qemu-img convert -f qcow2 -O raw "$dir/image" "$model"
	lb_attach data "$dir/image" data_file "$dir/data"
	same_as_model data
	qemu-io -f raw -t none -c "write -q -P 4 68k 4k" /dev/mapper/data
	qemu-io -f raw -c "write -q -P 4 68k 4k" "$model"
	same_as_model data
	lb_detach data
	umount "$dir"
}

# What the file system of the data has no space for; it goes on when there is some again.
part_space() {
	local dir images raw
	for raw in no yes; do
		lb_step "no space for the data, raw: $raw"
		images=$(lb_scratch 64 tmpfs)
		dir=$(lb_scratch 16 tmpfs)
		external "$images/image" "$dir/data" 32M "$raw"
		head -c 8M /dev/zero >"$dir/ballast"
		lb_attach data "$images/image" data_file "$dir/data"
		must_give "No space left" if=/dev/zero of=/dev/mapper/data bs=1M count=16 oflag=direct
		dmsetup status data | awk '{ exit !($10 > 0) }' || lb_fail "not counted: $(dmsetup status data)"
		rm "$dir/ballast"
		qemu-io -f raw -t none -c "write -q -P 3 8M 2M" /dev/mapper/data || lb_fail "it does not go on"
		lb_detach data
		lb_check "$images/image"
		must_hold qcow2 "$images/image" 3 $((8 * mib)) $((2 * mib))
		umount "$dir" "$images"
	done
}

# qcow2-maint finds the file, and keeps it when a table is loaded anew.
part_tool() {
	local dir maint=$LIVEBLK_BUILD/bin/qcow2-maint
	lb_step "attach, resume and refusals by qcow2-maint"
	dir=$(lb_scratch 100 ext4)
	mkdir "$dir/with blank"
	external "$dir/image" "$dir/with blank/data" 8M yes
	lb_image "$dir/plain" 8M
	must_fail "in another directory; if that is right, say so with --data-file .*with blank/data" \
		"$maint" attach "$dir/image" data
	"$maint" attach --json --data-file "$dir/with blank/data" "$dir/image" data | jq -e ".\"data-file\" == \"$dir/with blank/data\"" >/dev/null ||
		lb_fail "the data file is not told"
	qemu-io -f raw -t none -c "write -q -P 5 1M 1M" /dev/mapper/data
	[[ $(dmsetup table data) == *" data_file $dir/with\\ blank/data"* ]] || lb_fail "the table: $(dmsetup table data)"
	"$maint" info --json data | jq -e '."format-specific".data."data-file-raw"' >/dev/null || lb_fail "it is not raw"
	"$maint" check data || lb_fail "the check is not content"
	must_fail "external data file" "$maint" snapshot create data one
	must_fail "lock|use" "$maint" attach --data-file "$dir/with blank/data" "$dir/image" other
	dmsetup suspend data
	"$maint" resume data
	must_hold raw /dev/mapper/data 5 $mib $mib
	"$maint" detach data
	lb_check "$dir/image"
	mv "$dir/with blank/data" "$dir/moved"
	must_fail "find the data file .*with blank/data" "$maint" attach "$dir/image" data
	"$maint" attach --data-file "$dir/moved" "$dir/image" data
	must_hold raw /dev/mapper/data 5 $mib $mib
	"$maint" detach data
	# Beside the image it need not be named, and is not what only looks like another way to name it.
	qemu-img amend -q --image-opts -o "data_file=$dir/moved" \
		"driver=qcow2,file.filename=$dir/image,data-file.driver=file,data-file.filename=$dir/moved"
	"$maint" attach "$dir/image" data
	"$maint" detach data
	# Who only reads writes to nothing.
	"$maint" attach --read-only --data-file "$dir/moved" "$dir/image" data
	must_hold raw /dev/mapper/data 5 $mib $mib
	must_fail "Operation not permitted|Read-only|Permission" qemu-io -f raw -c "write 0 512" /dev/mapper/data
	"$maint" detach data
	must_fail "no external data file" "$maint" attach --data-file "$dir/moved" "$dir/plain" data
	umount "$dir"
}

# Reads and writes go on while the table is loaded anew.
part_reload() {
	local dir writer i
	lb_step "new tables under load"
	dir=$(lb_scratch 200 xfs)
	external "$dir/image" "$dir/data" 32M no
	lb_attach data "$dir/image" data_file "$dir/data"
	(for ((i = 0; i < 400; i++)); do echo "write -q -P $((i % 250 + 1)) $((i * 80))k 80k"; done) |
		qemu-io -f raw -t none /dev/mapper/data >/dev/null &
	writer=$!
	for ((i = 0; i < 5; i++)); do
		dmsetup load data --table "$(dmsetup table data)"
		dmsetup suspend data
		lb_check "$dir/image"
		dmsetup resume data
	done
	wait "$writer" || lb_fail "a write failed"
	for i in 0 99 200 399; do must_hold raw /dev/mapper/data $((i % 250 + 1)) $((i * 80 * 1024)) 81920; done
	lb_detach data
	lb_check "$dir/image"
	for i in 0 99 200 399; do must_hold qcow2 "$dir/image" $((i % 250 + 1)) $((i * 80 * 1024)) 81920; done
	umount "$dir"
}

part_files() {
	if lb_turn 0; then
		test_files xfs no $((8 * mib))
		test_files btrfs no $((9 * mib + 512 * 5)) cluster_size=2M lazy_refcounts=on
		test_files ext4 yes $((8 * mib))
	fi
	if lb_turn 1; then
		test_files ext4 no $((8 * mib + 512 * 5)) cluster_size=4096
		test_files xfs yes $((9 * mib + 512 * 5)) cluster_size=2M lazy_refcounts=on
		test_files tmpfs yes $((8 * mib + 512 * 5)) cluster_size=4096
	fi
}

export PATH=$LIVEBLK_BUILD/bin:$PATH
mib=1048576
model=/run/model
lb_load
for part in ${LIVEBLK_PARTS:-files blocks refusals hostile space tool reload}; do
	"part_$part"
done
lb_unload
