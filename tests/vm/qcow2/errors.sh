#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: errors below, a full store and corrupt entries hit the I/O concerned and nothing else
# needs: qemu-img qemu-io dmsetup jq filefrag mkfs.ext4 blkdiscard losetup
# timeout: 900
# mem: 3G
# cpus: 1
# first: yes
#
# Environment: LIVEBLK_PARTS, the parts to run (default all).
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh

name=err0
device=/dev/mapper/$name
below=/dev/mapper/errbelow
mib=1048576
cluster=65536
seed=${LIVEBLK_SEED:-$((RANDOM * 32768 + RANDOM))}
io_error='Input/output error'

read_byte64() { od -An -tu8 --endian=big -j "$2" -N 8 "$1" | tr -d ' '; } # FILE OFFSET

write_be64() { # FILE OFFSET VALUE
	local i bytes=
	for ((i = 56; i >= 0; i -= 8)); do
		bytes+=$(printf '\\x%02x' $((($3 >> i) & 255)))
	done
	printf '%b' "$bytes" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# The host offset of a guest offset of an image that is written there.
host_offset() { # IMAGE GUEST-OFFSET
	qemu-img map -U --output=json "$1" |
		jq -e --argjson at "$2" 'first(.[] | select(.data and .start <= $at and $at < .start + .length))
			| .offset + $at - .start'
}

l2_table_offset() { # IMAGE GUEST-OFFSET CLUSTER-SIZE
	local l1 index
	l1=$(read_byte64 "$1" 40)
	index=$(($2 / ($3 * ($3 / 8))))
	echo $(($(read_byte64 "$1" $((l1 + index * 8))) & 0x00fffffffffffe00))
}

# A device of which SECTORS from START on give errors; no START: all of it is well.
set_below() { # DISK [START SECTORS]
	local all table
	all=$(blockdev --getsz "$1")
	table="0 $all linear $1 0"
	if [ $# -gt 1 ]; then
		table="0 $2 linear $1 0
$2 $3 error
$(($2 + $3)) $((all - $2 - $3)) linear $1 $(($2 + $3))"
		table=$(awk '$2' <<<"$table") # no empty ones
	fi
	if dmsetup info errbelow >/dev/null 2>&1; then
		dmsetup reload errbelow --table "$table"
		dmsetup resume errbelow
	else
		dmsetup create errbelow --table "$table"
	fi
}

mode() { dmsetup status "$name" | grep -owE 'rw|ro|fail' | head -n 1; }
must_be_mode() { [ "$(mode)" = "$1" ] || lb_fail "the mode is not $1: $(dmsetup status "$name")"; }

read_4k() { dd if="$device" of=/dev/null bs=4k skip="$1" count="${2:-1}" iflag=direct status=none; } # BLOCK [COUNT]
write_4k() { dd if=/dev/zero of="$device" bs=4k seek="$1" count=1 oflag=direct status=none; }       # BLOCK

difftest() { # MODEL [options...]
	local model=$1
	shift
	seed=$((seed + 1))
	blk-difftest "$device" --model "$model" --seed "$seed" --jobs 3 --max-size 256k "$@"
}

# Sixteen clusters, each full of its number and one, in one piece of the host.
numbered_image() { # IMAGE SIZE
	local i commands=()
	lb_image "$1" "$2"
	for i in {0..15}; do
		commands+=(-c "write -q -P $((i + 1)) $((i * cluster)) $cluster")
	done
	qemu-io -f qcow2 "${commands[@]}" "$1"
}

# Block 81 of 4 KiB is the second of cluster 5; HOST is where the lower device has it.
check_hole() { # DISK HOST-SECTOR
	local i
	set_below "$1" "$2" 8
	must_give "$io_error" if="$device" of=/dev/null bs=4k skip=81 count=1 iflag=direct
	must_give "$io_error" if="$device" of=/dev/null bs=64k skip=5 count=1 iflag=direct
	must_give "$io_error" if=/dev/zero of="$device" bs=4k seek=81 count=1 oflag=direct conv=notrunc
	read_4k 80
	read_4k 82 40
	for i in {0..4} {6..15}; do
		must_hold raw "$device" $((i + 1)) $((i * cluster)) $cluster
	done
	# Others go on, right beside and at the same time.
	difftest "$dir/model.hole" --from 4m --ops 200 --strict --discard zeros
	write_4k 82
	must_be_mode rw
	set_below "$1"
	must_hold raw "$device" 6 $((81 * 4096)) 4096
	must_hold raw "$device" 0 $((82 * 4096)) 4096
}

test_hole_in_device() {
	lb_step "an unreadable place of the block device below"
	local host
	set_below "$ram"
	numbered_image "$below" 24M
	host=$(host_offset "$below" $((81 * 4096)))
	lb_attach "$name" "$below"
	check_hole "$ram" $((host / 512))
	lb_detach "$name"
	lb_check "$below"
	dmsetup remove errbelow
	rm "$dir/model.hole"
}

test_hole_in_file() {
	lb_step "an unreadable place of the file below"
	local host file_block disk_block mnt=/run/liveblk-hole image
	set_below "$ram"
	# Small ones get smaller blocks, which the sum below does not expect.
	mkfs.ext4 -q -F -b 4096 "$below"
	mkdir -p "$mnt"
	mount "$below" "$mnt"
	image=$mnt/disk.qcow2
	numbered_image "$image" 24M
	sync
	host=$(host_offset "$image" $((81 * 4096)))
	file_block=$((host / 4096))
	disk_block=$(filefrag -v -b4096 "$image" | awk -v at=$file_block '
		$1 ~ /^[0-9]+:$/ { gsub(/[.:]/, " "); if (at >= $2 && at <= $3) print $4 + at - $2 }')
	[ -n "$disk_block" ] || lb_fail "no extent of $image holds block $file_block"
	lb_attach "$name" "$image"
	check_hole "$ram" $((disk_block * 8))
	lb_detach "$name"
	lb_check "$image"
	umount "$mnt"
	dmsetup remove errbelow
	rm "$dir/model.hole"
}

test_unreadable_l2() {
	lb_step "an unreadable L2 table"
	local table
	set_below "$ram"
	lb_image "$below" 24M -o cluster_size=4k
	qemu-io -f qcow2 -c "write -q -P 1 0 6M" "$below"
	# It maps the guest's bytes from 2 to 4 MiB.
	table=$(l2_table_offset "$below" $((2 * mib)) 4096)
	set_below "$ram" $((table / 512)) 8
	lb_attach "$name" "$below"
	must_give "$io_error" if="$device" of=/dev/null bs=4k skip=600 count=1 iflag=direct
	read_4k 0 512
	read_4k 1024 512
	must_give "$io_error" if="$device" of=/dev/null bs=4k skip=512 count=1 iflag=direct
	set_below "$ram"
	must_hold raw "$device" 1 0 $((6 * mib))
	lb_detach "$name"
	lb_check "$below"
	dmsetup remove errbelow
}

below_is() { # TARGET ARGUMENT...
	dmsetup reload errbelow --table "0 $(blockdev --getsz "$ram") $*"
	dmsetup resume errbelow
}

# Leaves the device suspended, with sevens that have been written, and a change that cannot be put on disk.
fail_suspend() {
	lb_image "$below" 24M
	lb_attach "$name" "$below"
	head -c $((2 * mib + 65536)) /dev/zero | tr '\0' '\7' | dd of="$device" bs=64k iflag=fullblock oflag=direct status=none
	mark_log
	below_is error
	# All of that may be on disk by now: a commit comes after 5 s.
	blkdiscard -f -o $((2 * mib)) -l 65536 "$device"
	dmsetup suspend "$name"
	below_is linear "$ram" 0
	must_be_logged "qcow2.*could not write all metadata.*stays in use"
	must_fail "lock" qemu-img snapshot -c one "$below"
}

test_failed_suspend() {
	lb_step "a suspend that cannot write"
	set_below "$ram"
	fail_suspend
	dmsetup resume "$name"
	must_hold raw "$device" 7 0 $((2 * mib))
	must_be_mode rw
	write_4k 600
	lb_detach "$name"
	lb_check "$below"
	must_hold qcow2 "$below" 7 0 $((2 * mib))

	lb_step "a suspend that cannot write, and then no resume"
	fail_suspend
	lb_detach "$name"
	# What is lost leaves leaks at most.
	qemu-img check -q -r leaks "$below" >/dev/null || lb_fail "more than leaks in $below"
	lb_check "$below"
	dmsetup remove errbelow
}

# What is freed stays as it is while somebody reads it: the read sees what was there or that it is gone, and not what
# somebody else has written meanwhile.
test_slow_read() {
	lb_step "a slow read of a cluster that is freed meanwhile"
	local reader
	modprobe dm-delay || lb_fail "no dm-delay"
	set_below "$ram"
	lb_image "$below" 24M
	lb_attach "$name" "$below"
	fill_cluster 0 '\7'
	sync "$device"
	# Until the next table comes.
	below_is delay "$ram" 0 60000 "$ram" 0 0
	dd if="$device" bs=64k count=1 iflag=direct of="$dir/read" status=none &
	reader=$!
	sleep 0.3
	blkdiscard -f -o 0 -l $cluster "$device" # without a look at what is there
	sync "$device"
	# Long enough for it to be free, were it not for the read.
	sleep 0.5
	fill_cluster 100 '\11'
	kill -0 "$reader" 2>/dev/null || lb_fail "the read was over before: nothing is shown"
	below_is linear "$ram" 0
	wait "$reader"
	tr -d '\7' <"$dir/read" | cmp -s - /dev/null || cmp -s -n $cluster "$dir/read" /dev/zero ||
		lb_fail "the read shows what belongs elsewhere: $(od -An -tx1 -N 16 "$dir/read")"
	must_hold raw "$device" 9 $((100 * cluster)) $cluster
	lb_detach "$name"
	lb_check "$below"
	dmsetup remove errbelow
}

fill_cluster() { # NUMBER BYTE
	head -c $cluster /dev/zero | tr '\0' "$2" |
		dd of="$device" bs=$cluster seek="$1" iflag=fullblock oflag=direct status=none
}

# Clusters of the refcount table that the header on a disk names, whatever the page cache remembers.
table_clusters() { # DISK
	local bytes
	bytes=$(dd if="$1" bs=4k count=1 iflag=direct status=none | od -An -tx1 -j 56 -N 4)
	echo $((16#${bytes// /}))
}

must_not_flush() {
	must_fail "$io_error" sync "$device"
	[ "$(table_clusters "$1")" = 1 ] || lb_fail "the header names the new refcount table already: nothing is shown"
	must_be_mode rw
}

# All that a refcount table of one cluster reaches is in use, so that what is written makes a larger one necessary. The
# header that names it cannot be written, later nothing at all, then the header again.
test_growing_table() {
	lb_step "commits that fail while the refcount table moves"
	local big
	big=$(lb_ramdisk 1100)
	set_below "$big"
	lb_image "$below" 1018M -o cluster_size=4k -o refcount_bits=64 -o preallocation=metadata
	qemu-img snapshot -c held "$below"
	[ "$(table_clusters "$big")" = 1 ] || lb_fail "the table is large from the beginning"
	lb_attach "$name" "$below"
	set_below "$big" 0 8
	head -c $((4 * mib)) /dev/zero | tr '\0' '\11' | dd of="$device" bs=64k iflag=fullblock oflag=direct status=none
	must_not_flush "$big"
	set_below "$big" 0 "$(blockdev --getsz "$big")"
	must_not_flush "$big"
	set_below "$big" 0 8
	must_not_flush "$big"
	set_below "$big"
	sync "$device"
	[ "$(table_clusters "$big")" -gt 1 ] || lb_fail "a flush succeeded, and the header names the old refcount table"
	must_hold raw "$device" 9 0 $((4 * mib))
	lb_detach "$name"
	lb_check "$below"
	must_hold qcow2 "$below" 9 0 $((4 * mib))
	dmsetup remove errbelow
}

events() { dmsetup info -c --noheadings -o events "$name" | tr -d ' '; }

# Fills the store, gives space back, and goes on. SPACE is a command that gives it.
fill_and_go_on() { # IMAGE SPACE...
	local image=$1 model=$dir/model.full before out
	shift
	before=$(events)
	out=$(difftest "$model" --ops 900 --mix 10,80,2,2,4 --tolerate ENOSPC)
	seed=$((seed + 1)) # that of the subshell is gone
	echo "$out"
	[[ $out =~ \ [1-9][0-9]*\ failed\ as\ tolerated ]] || lb_fail "the store did not become full"
	(($(events) > before)) || lb_fail "no event was raised"
	must_be_mode rw
	"$@"
	difftest "$model" --ops 300 --strict --discard zeros
	lb_detach "$name"
	lb_check "$image"
	qemu-img compare -q -f raw -F qcow2 "$model" "$image" || lb_fail "the image is not what the model says"
	rm "$model"
}

test_full_file_system() { # TYPE
	lb_step "a full $1 below"
	local mnt
	mnt=$(lb_scratch 96 "$1")
	lb_image "$mnt/disk.qcow2" 64M
	# What is left is less than the test writes.
	fallocate -l $(($(df --output=avail -B1 "$mnt" | tail -n 1) - 8 * mib)) "$mnt/ballast"
	lb_attach "$name" "$mnt/disk.qcow2"
	must_be_mode rw
	fill_and_go_on "$mnt/disk.qcow2" rm "$mnt/ballast"
	rm "$mnt/disk.qcow2"
}

grow_below() {
	dmsetup suspend "$name"
	dmsetup reload errbelow --table "0 $(blockdev --getsz "$ram") linear $ram 0"
	dmsetup resume errbelow
	dmsetup resume "$name"
}

test_full_file_systems() {
	test_full_file_system ext4
	test_full_file_system tmpfs
}

test_full_device() {
	lb_step "a full block device below, enlarged while suspended"
	dmsetup create errbelow --table "0 $((16 * mib / 512)) linear $ram 0"
	lb_image "$below" 64M
	lb_attach "$name" "$below"
	fill_and_go_on "$below" grow_below
	dmsetup remove errbelow
}

others_hold() { # FORMAT IMAGE: all clusters but number 3
	local i
	for i in 0 1 2 4 5 15; do
		must_hold "$1" "$2" $((i + 1)) $((i * cluster)) $cluster
	done
}

# Cluster 3's entry becomes VALUE; its I/O must fail, and no other.
corrupt_entry() { # WHAT VALUE
	lb_step "an L2 entry that points $1"
	local image=$dir/corrupt.qcow2 table entry good
	numbered_image "$image" 24M
	table=$(l2_table_offset "$image" 0 $cluster)
	entry=$((table + 3 * 8))
	good=$(read_byte64 "$image" $entry)
	write_be64 "$image" $entry "$2"
	mark_log
	lb_attach "$name" "$image"
	must_give "$io_error" if="$device" of=/dev/null bs=4k skip=48 count=1 iflag=direct
	must_give "$io_error" if=/dev/zero of="$device" bs=4k seek=48 count=1 oflag=direct conv=notrunc
	must_be_logged "qcow2.*invalid L2 entry"
	[ "$(log_since_mark | grep -c 'invalid L2 entry')" = 1 ] || lb_fail "reported more than once"
	others_hold raw "$device"
	qemu-io -f raw -t none -c "write -q -P 99 $((100 * cluster)) $cluster" -c flush "$device"
	must_give "$io_error" if="$device" of=/dev/null bs=64k skip=3 count=1 iflag=direct
	lb_detach "$name"
	write_be64 "$image" $entry "$good"
	lb_check "$image"
	others_hold qcow2 "$image"
	must_hold qcow2 "$image" 4 $((3 * cluster)) $cluster
	must_hold qcow2 "$image" 99 $((100 * cluster)) $cluster
	rm "$image"
}

# A cluster that is in use and says it is free: nothing can be allocated safely.
test_corrupt_refcount() {
	lb_step "a reference that the refcounts deny"
	local image=$dir/corrupt.qcow2 host index
	numbered_image "$image" 24M
	host=$(host_offset "$image" $((3 * cluster)))
	index=$((host / cluster))
	# The first refcount block, of 16-bit entries, is the third cluster.
	printf '\0\0' | dd of="$image" bs=1 seek=$((2 * cluster + 2 * index)) conv=notrunc status=none
	mark_log
	lb_attach "$name" "$image"
	must_be_mode rw
	blkdiscard -o $((3 * cluster)) -l $cluster "$device"
	# What is to be freed is freed after a commit.
	for _ in {1..100}; do
		sync "$device"
		[ "$(mode)" != fail ] || break
		sleep 0.1
	done
	must_be_mode fail
	must_be_logged "qcow2.*corrupt"
	others_hold raw "$device"
	must_give "$io_error" if=/dev/zero of="$device" bs=64k seek=0 count=1 oflag=direct conv=notrunc
	must_give "$io_error" if=/dev/zero of="$device" bs=64k seek=100 count=1 oflag=direct conv=notrunc
	lb_detach "$name"
	qemu-img check -q -r all "$image" >/dev/null || lb_fail "qemu-img cannot repair it"
	lb_check "$image"
	others_hold qcow2 "$image"
	rm "$image"
}

# An entry to a cluster that counts as free: the next table could be put there.
test_free_but_mapped() {
	lb_step "a write through a reference that the refcounts deny"
	local image=$dir/corrupt.qcow2 host before
	numbered_image "$image" 24M
	host=$(host_offset "$image" $((3 * cluster)))
	printf '\0\0' | dd of="$image" bs=1 seek=$((2 * cluster + 2 * (host / cluster))) conv=notrunc status=none
	before=$(dd if="$image" bs=64k skip=$((host / cluster)) count=1 status=none | sha256sum)
	mark_log
	lb_attach "$name" "$image"
	# Others that are sound may be written before that; this one is found when it is to be.
	must_give "$io_error" if=/dev/zero of="$device" bs=4k seek=48 count=1 oflag=direct conv=notrunc
	must_be_mode fail
	must_be_logged "qcow2.*corrupt.*without a reference"
	must_hold raw "$device" 4 $((3 * cluster)) $cluster
	others_hold raw "$device"
	must_give "$io_error" if=/dev/zero of="$device" bs=64k seek=100 count=1 oflag=direct conv=notrunc
	lb_detach "$name"
	[ "$before" = "$(dd if="$image" bs=64k skip=$((host / cluster)) count=1 status=none | sha256sum)" ] ||
		lb_fail "it was written to"
	qemu-img check -q -r all "$image" >/dev/null || lb_fail "qemu-img cannot repair it"
	lb_attach "$name" "$image"
	qemu-io -f raw -t none -c "write -q -P 98 $((3 * cluster)) 4k" -c flush "$device"
	must_hold raw "$device" 98 $((3 * cluster)) 4096
	lb_detach "$name"
	lb_check "$image"
	rm "$image"
}

# One block of refcounts, of clusters 2048 to 4095, has all that is free; it cannot be read at first.
test_unreadable_refcounts() {
	lb_step "free clusters that are not found because of an error, and then are"
	local table block
	dmsetup create errbelow --table "0 $((20 * mib / 512)) linear $ram 0"
	lb_image "$below" 64M -o cluster_size=4k
	qemu-io -f qcow2 -d unmap -c "write -q -P 1 0 19M" -c "discard -q 9M 6M" "$below"
	table=$(read_byte64 "$below" 48)
	block=$(read_byte64 "$below" $((table + 8)))
	dmsetup reload errbelow --table "0 $((block / 512)) linear $ram 0
$((block / 512)) 8 error
$((block / 512 + 8)) $((20 * mib / 512 - block / 512 - 8)) linear $ram $((block / 512 + 8))"
	dmsetup resume errbelow
	lb_attach "$name" "$below"
	# Fills what is left at the end, and comes past the block that cannot be read.
	must_fail "No space" dd if=/dev/zero of="$device" bs=4k seek=$((32 * mib / 4096)) count=512 oflag=direct status=none
	dmsetup reload errbelow --table "0 $((20 * mib / 512)) linear $ram 0"
	dmsetup resume errbelow
	sleep 6
	dd if=/dev/zero of="$device" bs=4k seek=$((40 * mib / 4096)) count=1024 oflag=direct status=none ||
		lb_fail "there is no space although 6 MiB are free"
	lb_detach "$name"
	lb_check "$below"
	dmsetup remove errbelow
}

# Nothing that is not durable may be named by the header, not even to say that the image is corrupt.
test_header_of_failed_growth() {
	lb_step "a header written while the refcount table's move could not be"
	local back=$dir/back.img loop all old region mapped entry
	modprobe -a dm-flakey loop || lb_fail "no dm-flakey or loop"
	truncate -s 1100M "$back"
	loop=$(losetup --show -f "$back") || lb_fail "no loop device"
	all=$(blockdev --getsz "$loop")
	dmsetup create errbelow --table "0 $all linear $loop 0"
	# With 64-bit refcounts a table of one cluster reaches over 1 GiB, and a block over 2 MiB.
	qemu-img create -q -f qcow2 -o cluster_size=4k,refcount_bits=64,preallocation=metadata "$below" 1018M
	qemu-img snapshot -c held "$below"
	qemu-img resize -q --shrink -f qcow2 "$below" 24M
	# In an L2 table that nothing else needs.
	qemu-io -f qcow2 -c "write -q -P 9 20M 4k" "$below"
	mapped=$(host_offset "$below" $((20 * mib)))
	region=$((mapped / (2 * mib)))
	((region == 511)) || lb_fail "the refcount table is not about to be full: the last cluster is at $mapped"
	old=$(read_byte64 "$below" 48)
	entry=$(l2_table_offset "$below" $((20 * mib)) 4096)
	lb_attach "$name" "$below"
	# What is there cannot be written from here on, but for the header: no commit succeeds.
	dmsetup reload errbelow --table "0 8 linear $loop 0
8 $((mapped / 512 - 8)) flakey $loop 8 0 3600 1 error_writes
$((mapped / 512)) $((all - mapped / 512)) linear $loop $((mapped / 512))"
	dmsetup resume errbelow
	dd if=/dev/urandom of="$device" bs=64k seek=16 count=96 oflag=direct status=none
	# A cluster that has no reference, which nobody could have found and taken before.
	write_be64 "$back" "$entry" $(((1 << 63) | (1100 * mib - 4096)))
	must_give "$io_error" if=/dev/zero of="$device" bs=4k seek=$((20 * mib / 4096)) count=1 oflag=direct conv=notrunc
	must_be_mode fail
	dmsetup suspend "$name"
	dmsetup reload errbelow --table "0 $all linear $loop 0"
	dmsetup resume errbelow
	(($(od -An -tu1 -j 79 -N 1 "$below") & 2)) || lb_fail "the image is not marked corrupt"
	[ "$(read_byte64 "$below" 48)" = "$old" ] || lb_fail "the header names a refcount table that is not there"
	dmsetup remove "$name"
	dmsetup remove errbelow
	losetup -d "$loop"
	rm "$back"
}

# A table for a device on which the image's own file system is mounted.
test_on_itself() {
	lb_step "an image on the device itself"
	local mnt=/run/liveblk-itself sectors
	sectors=$((24 * mib / 512))
	dmsetup create "$name" --table "0 $sectors linear $ram 0"
	mkfs.ext4 -q -F "$device"
	mkdir -p "$mnt"
	mount "$device" "$mnt"
	lb_image "$mnt/disk.qcow2" 24M
	mark_log
	must_fail "." dmsetup reload "$name" --table "0 $sectors qcow2 $mnt/disk.qcow2"
	must_be_logged "qcow2.*lies on this very device"
	umount "$mnt"
	dmsetup remove "$name"
}

test_corrupt_entries() {
	local copied=$((1 << 63))
	corrupt_entry "beyond the end" $((copied | (1 << 40)))
	corrupt_entry "between clusters" $((copied | (5 * cluster + 512)))
	# Where qemu-img puts them in a new image of this cluster size.
	corrupt_entry "at the refcount table" $((copied | cluster))
	corrupt_entry "at the L1 table" $((copied | (3 * cluster)))
}

export PATH=$LIVEBLK_BUILD/bin:$PATH
echo "seed $seed"
lb_load
dir=$(lb_scratch 256 tmpfs)
ram=$(lb_ramdisk 96)
for part in ${LIVEBLK_PARTS:-hole_in_device hole_in_file unreadable_l2 failed_suspend growing_table slow_read full_file_systems
	full_device corrupt_entries corrupt_refcount free_but_mapped unreadable_refcounts header_of_failed_growth on_itself}; do
	"test_$part"
done
lb_unload
