#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: qcow2-maint and live devices: odd paths, calls at the same time, and wrong use, refused with the reason
# needs: qemu-img qemu-io dmsetup jq blockdev blkdiscard chattr mkfs.ext4 setpriv sfdisk losetup depmod mkfs.xfs fallocate
# timeout: 900
# mem: 3G
# cpus: 1
# boot: own
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/vm/maint/lib.sh
. tests/vm/maint/lib.sh

test_concurrent() {
	local first
	lb_step "one call at a time, and it says who has the image"
	fresh
	changes_of /run/liveblk-log snapshot create "$name" trial
	first=$(first_of /run/liveblk-log pwrite)
	settled "a trial"
	fresh
	hold_at "$first" snapshot create "$name" slow
	must_fail "in use by qcow2-maint \\(process $held\\)" "$maint" snapshot create "$name" fast
	must_fail "in use by qcow2-maint \\(process $held\\)" "$maint" snapshot create "$image" fast
	must_fail "in use by qcow2-maint \\(process $held\\)" "$maint" resume "$name"
	must_fail "in use by qcow2-maint \\(process $held\\)" "$maint" detach "$name"
	must_fail "in use by qcow2-maint" "$maint" info "$image"
	"$maint" info "$name" | grep -q suspended || lb_fail "info does not say that it is suspended"
	let_go
	[ "$status" -eq 0 ] || lb_fail "the first call ended with $status"
	lb_step "one that is killed blocks nobody"
	hold_at "$first" snapshot create "$name" killed
	kill -KILL "$held"
	let_go
	# Whoever comes first: its guardian, or this.
	must "$maint" resume "$name"
	must "$maint" snapshot create "$name" next
	settled "concurrent calls"
	[[ $state == *"slow next "* ]] || lb_fail "other snapshots: $state"
}

# A cluster in use whose refcount is 0, and is to be freed.
test_corrupt_in_use() {
	lb_step "an image that is found corrupt in use"
	local host
	lb_image "$image" "$size"
	must qemu-io -f qcow2 -c "write -P 3 0 256k" "$image"
	host=$(qemu-img map --output=json "$image" | jq -e '.[0].offset')
	# The first block of 16-bit refcounts is the third cluster.
	printf '\0\0' | dd of="$image" bs=1 seek=$((2 * 65536 + 2 * (host / 65536))) conv=notrunc status=none
	must "$maint" attach "$image" "$name"
	blkdiscard -l 65536 "$device"
	until dmsetup status "$name" | grep -q ' fail '; do sync "$device"; sleep 0.1; done
	must_fail "was found corrupt in use" "$maint" snapshot create "$name" one
	must_fail "was found corrupt in use" "$maint" check "$name"
	must_be_live "refused"
	must "$maint" check --repair all "$name"
	must_be_live "repaired"
	dmsetup status "$name" | grep -q ' rw ' || lb_fail "it cannot be written to: $(dmsetup status "$name")"
	must dd if=/dev/zero of="$device" bs=64k count=4 oflag=direct
	must "$maint" detach "$name"
	lb_check "$image"
}

# A block device's page cache is not what the module reads and writes; a reader of it keeps its pages busy.
test_block_device() {
	lb_step "an image on a block device that somebody reads"
	local n store=/dev/mapper/lb-ram1 reader
	lb_image "$store" "$size" -o cluster_size=4k
	must "$maint" attach "$store" "$name"
	while [ ! -e /run/liveblk-stop-reader ]; do cat "$store" >/dev/null; done &
	reader=$!
	for n in 1 2 3 4 5; do
		head -c $((size / 2)) /dev/zero | tr '\0' "\\$n" |
			dd of="$device" bs=64k seek="$n" iflag=fullblock oflag=direct status=none || lb_fail "writing"
		must "$maint" snapshot create "$name" "number$n"
	done
	must "$maint" snapshot delete "$name" number2
	touch /run/liveblk-stop-reader
	wait "$reader" || lb_fail "the reader failed"
	must "$maint" detach "$name"
	lb_check "$store"
	for n in 5 4 3 1; do
		must "$maint" snapshot revert "$store" "number$n"
		must_hold qcow2 "$store" "$n" $((n * 65536)) $((size / 2))
	done
	lb_check "$store"
}

test_no_lock() {
	lb_step "without a lock nothing tells whose file it is"
	lb_image "$image" "$size"
	lb_attach "$name" "$image" no_lock
	must_fail "attached with no_lock" "$maint" snapshot create "$name" one
	must "$maint" check "$name"
	must "$maint" detach "$name"
}

test_short_lock() {
	lb_step "resume waits for a program that has the image for a moment"
	local status first reader
	fresh
	changes_of /run/liveblk-log snapshot create "$name" trial
	first=$(first_of /run/liveblk-log dm-resume)
	# What this call has freed would change how many changes the next one makes.
	settled "a trial"
	fresh
	hold_at "$first" snapshot create "$name" trial
	qemu-io -r -f qcow2 -c "sleep 1500" "$image" >/dev/null &
	reader=$!
	sleep 0.7
	let_go
	[ "$status" -eq 0 ] || lb_fail "ended with $status"
	wait "$reader" || lb_fail "qemu-io did not get the image"
	settled "a short lock"
}

test_output_on_device() {
	lb_step "output that goes to the device itself"
	local mnt=/run/liveblk-own
	mkdir -p "$mnt"
	lb_image "$image.own" 64M
	must "$maint" attach "$image.own" "$name"
	mkfs.ext4 -q "$device"
	mount "$device" "$mnt"
	cp "$maint" "$mnt/tool"
	(cd "$mnt" && ./tool snapshot create "$name" own --json >out 2>err </dev/null) || lb_fail "failed: $(cat "$mnt/err")"
	grep -q pause-ms "$mnt/out" || lb_fail "no output"
	must_be_live "own output"
	must_fail "in use" "$maint" resize --shrink "$name" 32M
	must_fail "in use" "$maint" detach "$name"
	must "$maint" resize "$name" 80M
	[ "$(blockdev --getsize64 "$device")" = $((80 << 20)) ] || lb_fail "not 80 MiB"
	umount "$mnt"
	must_fail "give --shrink" "$maint" resize "$name" 64M
	must "$maint" resize --shrink "$name" 64M
	[ "$(blockdev --getsize64 "$device")" = $((64 << 20)) ] || lb_fail "not 64 MiB"
	must "$maint" detach "$name"
	lb_check "$image.own"
	rm "$image.own"
}

test_wrong_use() {
	lb_step "wrong use is refused, with the reason"
	local pid
	fresh
	must_fail "in use by the live device $name" "$maint" snapshot create "$image" x
	must_fail "in use by the live device $name" "$maint" check "$image"
	must_fail "in use by the live device $name" "$maint" resize "$image" +1M
	must_fail "live device cannot be reverted" "$maint" snapshot revert "$name" one
	must_fail "already" "$maint" attach "$image" "$name"
	must_fail "in use by the live device $name" "$maint" attach "$image" other
	must_fail "is the name or id" "$maint" snapshot create "$name" one
	must_fail "nothere" "$maint" snapshot delete "$device" nothere
	must_fail "none" "$maint" detach nothere
	must_fail "none" "$maint" resume nothere
	must_fail "not a .*dm-qcow2 device" "$maint" detach lb-ram0
	must_fail "not a .*dm-qcow2 device" "$maint" snapshot list lb-ram0
	"$maint" resume "$name" | grep -q "is not suspended" || lb_fail "resume of a live device"
	dmsetup reload "$name" --table "$(dmsetup table "$name")"
	must_fail "somebody has loaded a table" "$maint" snapshot create "$name" x
	dmsetup clear "$name"
	lb_step "a device that its owner has suspended"
	dmsetup suspend "$name"
	must_fail "qcow2-maint resume $name" "$maint" snapshot create "$name" x
	is_suspended || lb_fail "resumed, though its owner suspended it"
	must "$maint" resize "$image" +1M
	must "$maint" resume "$name"
	settled "suspended by its owner"
	lb_step "a table that another program has loaded"
	fresh
	dmsetup suspend "$name"
	dmsetup reload "$name" --table "0 $((size / 512)) linear /dev/mapper/lb-ram1 0"
	must_fail "not a dm-qcow2" "$maint" resume "$name"
	dmsetup clear "$name"
	must "$maint" resume "$name"
	settled "a foreign table"

	lb_step "read-only, and not what it should be"
	cp "$base" "$image"
	must "$maint" attach "$image" "$name" --read-only
	[ "$(blockdev --getro "$device")" = 1 ] || lb_fail "read-only, and writable"
	must_fail "attached read-only" "$maint" snapshot create "$name" x
	must "$maint" check "$name"
	settled "read-only"
	chattr +i "$image"
	must_fail "writing: Operation not permitted" "$maint" attach "$image" "$name"
	must_fail "writing: Operation not permitted" "$maint" snapshot create "$image" x
	must "$maint" attach "$image" "$name" --read-only
	settled "a file that cannot be written"
	chattr -i "$image"
	mount -o remount,ro "$dir"
	must_fail "Read-only file system" "$maint" attach "$image" "$name"
	must_fail "Read-only file system" "$maint" snapshot create "$image" x
	must "$maint" attach "$image" "$name" --read-only
	must "$maint" detach "$name"
	mount -o remount,rw "$dir"
	echo "no image" >"$dir/text"
	must_fail "not a QCOW2 image|magic" "$maint" attach "$dir/text" "$name"
	must_fail "No such file" "$maint" attach "$dir/nothere" "$name"

	lb_step "an image that QEMU has open"
	qemu-io -f qcow2 -c "sleep 100000" "$image" >/dev/null &
	pid=$!
	sleep 1
	must_fail "in use by qemu-io \\(process $pid\\)" "$maint" attach "$image" "$name"
	kill "$pid"
	wait "$pid" || true
	must "$maint" attach "$image" "$name"
	settled "after QEMU"
}

# What dm-qcow2 would give I/O errors for, or refuse in the kernel log alone.
test_unfit_images() {
	lb_step "images that have to be repaired or converted first"
	local bad=$dir/bad.qcow2
	cp "$base" "$bad"
	must qemu-io -f qcow2 -c "write -c -P 9 1M 4k" "$bad"
	must "$maint" attach "$bad" "$name"
	must_hold raw "$device" 9 1M 4k
	must "$maint" snapshot create "$name" packed
	qemu-io -f raw -t none -c "write -q -P 8 1M 512" "$device"
	must_hold raw "$device" 9 1049088 3584
	must "$maint" snapshot delete "$name" packed
	must "$maint" detach "$name"
	lb_check "$bad"
	# The compression type is one that nobody knows.
	must qemu-img create -q -f qcow2 -o compression_type=zstd "$bad" 1M
	printf '\2' | dd of="$bad" bs=1 seek=104 conv=notrunc status=none
	must_fail "compression type 2, which dm-qcow2 does not support" "$maint" attach "$bad" "$name"

	# The byte that ends the field of incompatible features: dirty, corrupt.
	local bit
	for bit in 1 2; do
		cp "$base" "$bad"
		printf '%b' "\\x0$bit" | dd of="$bad" bs=1 seek=79 conv=notrunc status=none
		must_fail "marked (dirty|corrupt).*'qcow2-maint check --repair all $bad'.*--read-only" \
			"$maint" attach "$bad" "$name"
		must "$maint" attach "$bad" "$name" --read-only
		must "$maint" detach "$name"
		must "$maint" check --repair all "$bad"
		must "$maint" attach "$bad" "$name"
		must "$maint" detach "$name"
	done
	printf '\x20' | dd of="$bad" bs=1 seek=79 conv=notrunc status=none
	must_fail "incompatible feature 5 .*dm-qcow2 does not support" "$maint" attach "$bad" "$name"
	rm "$bad"
	lb_image "$dir/extended.qcow2" 1M -o extended_l2=on
	must "$maint" attach "$dir/extended.qcow2" "$name"
	must qemu-io -f raw -t none -c "write -P 3 1k 3k" "/dev/mapper/$name"
	must "$maint" snapshot create "$name" one
	must qemu-io -f raw -t none -c "write -P 4 2k 1k" "/dev/mapper/$name"
	must "$maint" check "$name"
	must "$maint" detach "$name"
	must_hold qcow2 "$dir/extended.qcow2" 4 2k 1k
	must "$maint" snapshot revert "$dir/extended.qcow2" one
	must_hold qcow2 "$dir/extended.qcow2" 3 1k 3k
	lb_check "$dir/extended.qcow2"
	rm "$dir/extended.qcow2"
}

test_ordinary_user() {
	lb_step "who is not root is told so"
	local as=(setpriv --reuid 65534 --regid 65534 --clear-groups) program=/run/liveblk-maint file=/run/liveblk-user.qcow2
	install -m 755 "$maint" "$program"
	fresh
	cp "$base" "$file"
	chown 65534 "$file"
	must_fail "only root may" "${as[@]}" "$program" attach "$file" other
	must_fail "only root may" "${as[@]}" "$program" detach "$name"
	must_fail "only root may" "${as[@]}" "$program" resume "$name"
	must_fail "only root may" "${as[@]}" "$program" snapshot create "$name" x
	must_fail "only root may" "${as[@]}" "$program" snapshot revert "$name" one
	must_fail "Permission denied" "${as[@]}" "$program" snapshot revert "/dev/mapper/$name" one
	must "${as[@]}" "$program" snapshot revert "$file" one
	chown 0 "$file"
	must_fail "open '$file' for writing: Permission denied" "${as[@]}" "$program" snapshot revert "$file" one
	settled "asked by somebody else"
	rm "$file" "$program"
}

# Snapshots of a live device come and go, and the guest discards and writes.
test_space() {
	lb_step "an image in use does not grow from snapshot to snapshot"
	local n before after store=$dir/space.qcow2
	lb_image "$store" 16M -o cluster_size=64k
	must "$maint" attach "$store" "$name"
	dd if=/dev/urandom of="$device" bs=1M count=16 oflag=direct status=none
	before=0
	for ((n = 0; n < 7; n++)); do
		must "$maint" snapshot create "$name" s
		dd if=/dev/urandom of="$device" bs=64k seek=$((n * 8)) count=16 oflag=direct status=none
		must "$maint" snapshot delete "$name" s
		blkdiscard -o $((n * 65536)) -l 1M "$device"
		dd if=/dev/urandom of="$device" bs=64k seek=$n count=16 oflag=direct status=none
		dmsetup suspend "$name"
		after=$(stat -c %s "$store")
		dmsetup resume "$name"
		# The first rounds leave the free clusters that the later ones need.
		[ $n -ge 3 ] || before=$after
	done
	echo "$before bytes after 3 rounds, $after after 7"
	[ "$after" -le $((before + 4 * 65536)) ] || lb_fail "it grew from $before to $after bytes"
	must "$maint" detach "$name"
	lb_check "$store"
	rm "$store"
}

# An L2 table that begins with a hole, in a file that shares its extents: XFS sets blocks aside for copy-on-write around
# what is written next, and SEEK_DATA of 6.1 jumps over the table. A repair would free what it refers to.
test_shared_extents() {
	lb_step "an image that was copied by sharing extents"
	local xfs disk
	xfs=$(lb_scratch 300 xfs)
	disk=$xfs/disk.qcow2
	lb_image "$disk" 512M -o cluster_size=64k
	must qemu-io -f qcow2 -c "write -P 5 300M 64k" "$disk"
	must fallocate --dig-holes "$disk"
	must cp --reflink=always "$disk" "$xfs/copy.qcow2"
	must qemu-io -t none -f qcow2 -c "write -P 6 300M 4k" "$xfs/copy.qcow2"
	echo 1 >/proc/sys/vm/drop_caches
	must "$maint" check --repair leaks "$xfs/copy.qcow2"
	must "$maint" snapshot create "$xfs/copy.qcow2" one
	must_hold qcow2 "$xfs/copy.qcow2" 6 300M 4k
	must_hold qcow2 "$xfs/copy.qcow2" 5 $((300 * 1048576 + 4096)) 60k
	lb_check "$xfs/copy.qcow2"
	umount "$xfs"
}

test_partitions() {
	lb_step "partitions inside an image"
	local disk=$dir/parts.qcow2 loop
	lb_image "$disk" 32M
	must "$maint" attach "$disk" "$name"
	echo 'start=2048,size=16384' | sfdisk -q --no-reread --no-tell-kernel "$device" || lb_fail "no partition table"
	modprobe loop
	loop=$(losetup -P -f --show "$device") || lb_fail "no loop device"
	[ "$(blockdev --getsz "${loop}p1")" = 16384 ] || lb_fail "no partition of 16384 sectors"
	must dd if=/dev/urandom of="${loop}p1" bs=64k count=4 oflag=direct
	must_fail "in use" "$maint" detach "$name"
	losetup -d "$loop"
	must "$maint" detach "$name"
	lb_check "$disk"
	rm "$disk"
}

test_odd_paths() {
	lb_step "blanks and backslashes in the path"
	local odd="$dir/a b\\c	d.qcow2"
	cp "$base" "$odd"
	must "$maint" attach "$odd" "$name"
	must "$maint" snapshot create "$name" odd
	must "$maint" resize "$name" +1M
	[ "$("$maint" info --json "$name" | jq -r .filename)" = "$odd" ] || lb_fail "not its path"
	must_fail "in use by the live device $name" "$maint" info "$odd"
	must "$maint" detach "$name"
	lb_check "$odd"
	rm "$odd"
}

test_replaced_file() {
	lb_step "another file in the place of the image"
	fresh
	mv "$image" "$image.moved"
	cp "$base" "$image"
	must_fail "is not the file that the device has open" "$maint" snapshot create "$name" x
	mv "$image.moved" "$image"
	must "$maint" snapshot create "$name" x
	settled "a replaced file"
}

test_no_space() {
	lb_step "no space for an edit"
	local small
	small=$(lb_scratch 40 ext4)
	lb_image "$small/full.qcow2" 8M -o cluster_size=4k
	must "$maint" attach "$small/full.qcow2" "$name"
	dd if=/dev/urandom of="$device" bs=1M count=8 oflag=direct conv=fsync status=none
	local sum
	sum=$(sha1sum <"$device")
	# Gives back what is allocated ahead.
	dmsetup suspend "$name"
	dmsetup resume "$name"
	dd if=/dev/zero of="$small/fill" bs=64k status=none 2>/dev/null || true
	must_fail "No space left on device" "$maint" snapshot create "$name" x
	must_be_live "no space"
	rm "$small/fill"
	[ "$(sha1sum <"$device")" = "$sum" ] || lb_fail "the data has changed"
	must "$maint" snapshot create "$name" x
	must "$maint" detach "$name"
	lb_check "$small/full.qcow2"
}

test_missing_target() {
	lb_step "without the module"
	must_fail "module dm-qcow2 cannot be loaded: .*not found" "$maint" attach "$image" "$name"
}

# For all tools, with a tree of few modules, which depmod is soon done with.
test_unloadable_modules() {
	lb_step "modules that are not installed, or not signed"
	local few=/run/few-modules modules name
	modules=/lib/modules/$(uname -r)
	mkdir "$few"
	cp "$modules"/modules.{builtin,builtin.modinfo,order} "$few"
	mount --bind "$few" "$modules"
	depmod
	must_fail "module blk-interposer cannot be loaded: .*not found.*not installed" "$LIVEBLK_BUILD/bin/blk-interpose" list
	must_fail "module loop-copy cannot be loaded: .*not found" "$LIVEBLK_BUILD/bin/blk-copy" loop attach "$base"
	must_fail "module null-copy cannot be loaded: .*not found" "$LIVEBLK_BUILD/bin/blk-copy" null create x
	for name in blk-copy file-io blk-interposer loop-copy null-copy dm-qcow2; do
		install -D "$LIVEBLK_BUILD/modules/$(uname -r)/$name.ko" "$few/updates/$name.ko"
	done
	depmod
	echo 1 >/sys/module/module/parameters/sig_enforce
	must_fail "module blk-copy cannot be loaded: .*Key was rejected.*signed" \
		"$LIVEBLK_BUILD/bin/blk-copy" /dev/mapper/lb-ram1 /dev/mapper/lb-ram1:1M 1M
	must_fail "module blk-interposer cannot be loaded: .*Key was rejected.*signed" "$LIVEBLK_BUILD/bin/blk-interpose" list
	must_fail "module loop-copy cannot be loaded: .*Key was rejected.*signed" "$LIVEBLK_BUILD/bin/blk-copy" loop attach "$base"
	must_fail "module null-copy cannot be loaded: .*Key was rejected.*signed" "$LIVEBLK_BUILD/bin/blk-copy" null create x
	must_fail "module dm-qcow2 cannot be loaded: .*Key was rejected.*signed" "$maint" attach "$base" "$name"
}

modprobe dm-mod
make_base
lb_ramdisk 8 >/dev/null
cp "$base" "$image"
test_missing_target
lb_load
test_unfit_images
test_ordinary_user
test_space
test_shared_extents
test_partitions
test_odd_paths
test_wrong_use
test_replaced_file
test_no_space
test_output_on_device
test_concurrent
test_short_lock
test_corrupt_in_use
test_block_device
test_no_lock
lb_unload
test_unloadable_modules
