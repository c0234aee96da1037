#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: loop-copy as a disk: shared extents, files on it, discard, read-only, resize, partitions, block size, autoclear, hanging file systems
# needs: jq filefrag fio mkfs.btrfs mkfs.xfs mkfs.ext4 e2fsck xfs_repair sfdisk blkdiscard fstrim fsfreeze
# cpus: 1
# timeout: 600
# mem: 3G
# disks: 256M
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/copy/lib.sh
. tests/vm/copy/lib.sh

mnt=/run/upper
mkdir -p "$mnt"

used() { echo $(($(stat -c '%b' "$1") * 512)); }
free_on() { df --output=avail -B1 "$1" | tail -n 1; }

test_shares() {
	lb_step "a copy shares extents"
	local before after
	cp_fill "$disk" 0 $((8 * mib))
	sync "$dir/a.img"
	before=$(free_on "$dir")
	blk-copy "$disk" "$disk:32m" 8m
	sync "$dir/a.img"
	after=$(free_on "$dir")
	cp_same "$disk" 0 "$disk" $((32 * mib)) $((8 * mib))
	((before - after < 256 * 1024)) || lb_fail "8 MiB copied took $((before - after)) bytes"
	filefrag -v "$dir/a.img" | grep -q shared || lb_fail "no shared extents: $(filefrag -v "$dir/a.img")"
	# Writing one side leaves the other alone.
	sum=$(cp_sum "$disk" 0 $((8 * mib)))
	cp_fill "$disk" $((32 * mib)) $mib
	[ "$(cp_sum "$disk" 0 $((8 * mib)))" = "$sum" ] || lb_fail "the source has changed"
	# Odd sectors cannot be shared, and are copied all the same.
	blk-copy "$disk:512" "$disk:49153k" 100k
	cp_same "$disk" 512 "$disk" $((49153 * 1024)) $((100 * 1024))
}

test_two_disks() {
	lb_step "from one file to another"
	local other
	truncate -s 64M "$dir/b.img"
	other=$(cp_loop "$dir/b.img")
	blk-copy "$disk" "$other:1m" 8m
	cp_same "$disk" 0 "$other" $mib $((8 * mib))
	[ "$(cp_attr "$other" offloaded)" = $((8 * mib)) ] || lb_fail "offloaded is $(cp_attr "$other" offloaded)"
	cp_loop_detach "$other"
	# On another file system nothing can be shared.
	truncate -s 16M "$ext4/c.img"
	other=$(cp_loop "$ext4/c.img")
	must_fail "no driver copies" blk-copy "$disk" "$other" 8m
	blk-copy --emulate=auto "$disk" "$other" 8m
	cp_same "$disk" 0 "$other" 0 $((8 * mib))
	blk-copy "$other" "$other:8m" 8m
	cp_same "$disk" 0 "$other" $((8 * mib)) $((8 * mib))
	cp_loop_detach "$other"
}

test_discard() {
	lb_step "discard and zeroes give space back"
	local before
	before=$(used "$dir/a.img")
	blkdiscard -o 0 -l $((4 * mib)) "$disk"
	blkdiscard -z -o $((4 * mib)) -l $((4 * mib)) "$disk"
	# Zeroing may keep what it had.
	((before - $(used "$dir/a.img") >= 4 * mib)) || lb_fail "no space came back"
	[ "$(cp_sum "$disk" 0 $((8 * mib)))" = "$(head -c $((8 * mib)) /dev/zero | sha256sum)" ] || lb_fail "not zeros"
}

fsck_upper() { # TYPE
	case $1 in
	ext4) e2fsck -fn "$disk" ;;
	xfs) xfs_repair -n "$disk" ;;
	esac >/run/fsck 2>&1 || { tail -n 20 /run/fsck; lb_fail "the $1 is not clean"; }
}

test_files() { # TYPE
	lb_step "$1 on it, fio with verification"
	case $1 in
	ext4) mkfs.ext4 -q -F "$disk" ;;
	xfs) mkfs.xfs -q -f "$disk" ;;
	esac
	mount "$disk" "$mnt"
	must_fail "in use" blk-copy "$disk" "$disk:32m" 1m
	must_fail "busy" blk-copy loop detach "$disk"
	fio --name=v --directory="$mnt" --numjobs=2 --size=4m --rw=randrw --bsrange=512-64k --ioengine=io_uring --iodepth=8 \
		--direct=1 --fsync=32 --verify=crc32c --verify_fatal=1 --minimal --output=/run/fio || {
		cat /run/fio
		lb_fail "fio found wrong data"
	}
	dd if=/dev/urandom of="$mnt/f" bs=64k count=32 conv=fsync status=none
	sum=$(sha256sum <"$mnt/f")
	rm "$mnt"/v.*
	fstrim "$mnt"
	umount "$mnt"
	fsck_upper "$1"
	# The same file, as another disk.
	cp_loop_detach "$disk"
	disk=$(cp_loop "$dir/a.img")
	mount "$disk" "$mnt"
	[ "$(sha256sum <"$mnt/f")" = "$sum" ] || lb_fail "the file has changed"
	umount "$mnt"
}

test_partitions() {
	lb_step "partitions, and copies in and between them"
	cp_loop_detach "$disk"
	dd if=/dev/zero of="$dir/a.img" bs=1M count=1 conv=notrunc status=none
	printf 'label: gpt\nstart=2048, size=65536\nstart=67584, size=65536\n' | sfdisk -q "$dir/a.img" >/dev/null
	disk=$(cp_loop "$dir/a.img")
	[ ! -e "${disk}p1" ] || lb_fail "partitions were looked for"
	cp_loop_detach "$disk"
	disk=$(cp_loop -P "$dir/a.img")
	[ -b "${disk}p2" ] || lb_fail "no ${disk}p2"
	cp_fill "${disk}p1" 0 $((2 * mib))
	blk-copy "${disk}p1" "${disk}p2:4m" 2m
	cp_same "${disk}p1" 0 "${disk}p2" $((4 * mib)) $((2 * mib))
	cp_same "${disk}p1" 0 "$disk" $((33 * mib + 4 * mib)) $((2 * mib))
	# Within the disk, but not within the partition.
	must_fail "ends at" blk-copy "${disk}p1" "${disk}p2:31m" 2m
	# Two names of the same bytes.
	must_fail "overlap" blk-copy "${disk}:1m" "${disk}p1" 1m
	cp_loop_detach "$disk"
}

# Somebody who only looks has the partition open already: before 6.5 a driver does not learn of the second open.
test_autoclear_partition() { # COMMAND...
	local i
	disk=$(cp_loop -P --autoclear "$dir/a.img")
	exec 9<"${disk}p1"
	"$@"
	[ -b "$disk" ] || lb_fail "it went away while it was open"
	exec 9<&-
	for i in {1..100}; do
		[ -b "$disk" ] || return 0
		sleep 0.1
	done
	lb_fail "it did not go away in $i steps: $*"
}
write_partition() { dd if=/dev/zero of="${disk}p1" bs=4k count=1 conv=notrunc status=none; }
mount_partition() {
	mount -o ro "${disk}p1" "$mnt"
	umount "$mnt"
}

test_autoclear_partitions() {
	lb_step "autoclear, where a partition is open already"
	disk=$(cp_loop -P "$dir/a.img")
	mkfs.ext4 -q -F "${disk}p1"
	cp_loop_detach "$disk"
	test_autoclear_partition mount_partition
	test_autoclear_partition write_partition
}

# A file system that lets nobody write keeps nobody from the other disks.
test_frozen() {
	lb_step "a disk on a frozen file system is detached"
	local other
	disk=$(cp_loop "$dir/a.img")
	cp_fill "$disk" 0 65536
	truncate -s 16M "$ext4/f.img"
	fsfreeze -f "$dir"
	timeout 20 blk-copy loop detach "$disk" || { fsfreeze -u "$dir"; lb_fail "the file system is waited for"; }
	other=$(timeout 20 blk-copy loop attach "$ext4/f.img") || { fsfreeze -u "$dir"; lb_fail "other disks wait"; }
	fsfreeze -u "$dir"
	cp_loop_detach "$other"
}

# The first copies of a module, and what must not be taken for a disk of loop-copy.
test_module() {
	lb_step "copies by a module, and a disk of somebody else's"
	local ram
	ram=$(lb_ramdisk 64)
	disk=$(cp_loop "$dir/a.img")
	cp_fill "$disk" 0 $((16 * mib))
	insmod "$LIVEBLK_BUILD/modules/$(uname -r)/tests/copy-test.ko" device="$disk" other="$ram" || lb_fail "$(dmesg | tail -n 5)"
	rmmod copy-test
	cp_same "$disk" 0 "$disk" $((32 * 262144)) 262144
	cp_loop_detach "$disk"
}

# Where nothing can be shared a copy is in small pieces, and what is in the way of direct I/O is no hindrance.
test_unshared() {
	lb_step "file systems that share nothing"
	local plain
	plain=$(lb_ramdisk 64)
	mkfs.xfs -q -f --unsupported -m reflink=0 "$plain"
	mkdir -p /run/plain
	mount "$plain" /run/plain
	truncate -s 24M /run/plain/p.img
	disk=$(cp_loop /run/plain/p.img)
	(($(cp_attr "$disk" max_hw_bytes) <= 4 * mib)) || lb_fail "XFS without reflink copies $(cp_attr "$disk" max_hw_bytes) bytes at once"
	cp_fill "$disk" 0 $((8 * mib))
	blk-copy "$disk:512" "$disk:8389120" $((7 * mib + 1536))
	cp_same "$disk" 512 "$disk" 8389120 $((7 * mib + 1536))
	# The file becomes shorter than its disk: as far as it goes.
	cp_loop_detach "$disk"
	disk=$(cp_loop /run/plain/p.img)
	truncate -s $((2 * mib)) /run/plain/p.img
	must_fail "Input/output error; 524288 of" blk-copy "$disk:1536k" "$disk" 1m
	cp_loop_detach "$disk"
	umount /run/plain
}

test_forms() {
	lb_step "read-only, block size, resize, autoclear, list"
	disk=$(cp_loop -r "$dir/a.img")
	must_fail "" dd if=/dev/zero of="$disk" bs=4k count=1 oflag=direct status=none
	must_fail "" blockdev --setrw "$disk"
	must_fail "read-only|not permitted" blk-copy "$disk" "$disk:8m" 1m
	cp_loop_detach "$disk"
	must_fail "no regular file" blk-copy loop attach /dev/null
	must_fail "no disk of loop-copy" blk-copy loop detach /dev/vda
	must_fail "No such device" blk-copy loop detach /dev/loopc77
	disk=$(cp_loop -b 4k "$dir/a.img")
	[ "$(blockdev --getss "$disk")" = 4096 ] || lb_fail "the block size is $(blockdev --getss "$disk")"
	must_fail "multiples" blk-copy "$disk" "$disk:8m" 2k
	truncate -s $((128 * mib + 5000)) "$dir/a.img"
	blk-copy loop resize "$disk"
	[ "$(blockdev --getsize64 "$disk")" = $((128 * mib + 4096)) ] || lb_fail "$(blockdev --getsize64 "$disk") bytes"
	[ "$(blk-copy loop list --json | jq -r '.[0] | [.name, .file, .block_size, .direct] | @csv')" = \
		"\"$disk\",\"$dir/a.img\",4096,true" ] || lb_fail "$(blk-copy loop list --json)"
	must_fail "in use" rmmod loop-copy
	cp_loop_detach "$disk"
	disk=$(cp_loop --autoclear "$dir/a.img")
	dd if="$disk" of=/dev/null bs=4k count=1 status=none
	[ -b "$disk" ] || lb_fail "it went away because somebody looked"
	dd if=/dev/zero of="$disk" bs=4k count=1 status=none conv=notrunc
	for _ in {1..100}; do
		[ -b "$disk" ] || break
		sleep 0.1
	done
	[ ! -b "$disk" ] || lb_fail "it did not go away"
	[ "$(blk-copy loop list --json)" = "[]" ] || lb_fail "$(blk-copy loop list)"
}

test_buffered() {
	lb_step "without direct I/O"
	local tmp
	tmp=$(lb_scratch 64 tmpfs)
	truncate -s 32M "$tmp/t.img"
	disk=$(cp_loop "$tmp/t.img")
	cp_fill "$disk" 0 $((2 * mib))
	blk-copy "$disk" "$disk:8m" 2m
	cp_same "$disk" 0 "$disk" $((8 * mib)) $((2 * mib))
	cp_loop_detach "$disk"
	umount "$tmp"
}

# Where checksums are computed below, pages that are written must not change, also if it is overlayfs that says nothing.
test_stable() {
	lb_step "stable writes"
	local btrfs merged file disk wanted
	btrfs=$(lb_scratch 300 btrfs)
	merged=$(lb_overlay "$btrfs")
	for file in "$btrfs/disk" "$merged/disk" "$ext4/stable"; do
		truncate -s 8M "$file"
		disk=$(cp_loop "$file")
		wanted=1
		[[ $file != "$ext4"/* ]] || wanted=0
		[ "$(cat "/sys/block/${disk#/dev/}/queue/stable_writes")" = "$wanted" ] ||
			lb_fail "stable_writes of $disk, which is $file, is not $wanted"
		cp_loop_detach "$disk"
		rm "$file"
	done
	umount -R "$btrfs"
}

# Two disks of one file share its page cache, and one goes before the other.
test_twins() {
	lb_step "a file attached twice"
	local one two
	truncate -s 16M "$dir/twins"
	one=$(cp_loop "$dir/twins")
	two=$(cp_loop "$dir/twins")
	cp_fill "$one" 0 $mib
	blk-copy "$one" "$one:8m" 1m
	cp_same "$one" 0 "$two" $((8 * mib)) $mib
	cp_loop_detach "$one"
	# Parts of shared blocks, which go through the page cache.
	dd if=/dev/urandom of="$two" bs=512 seek=$((8 * 2048 + 3)) count=9 oflag=direct conv=notrunc status=none
	cp_same "$two" 0 "$two" $((8 * mib)) 1536
	cp_loop_detach "$two"
	one=$(cp_loop "$dir/twins")
	cp_fill "$one" 0 $mib
	cp_loop_detach "$one"
	rm "$dir/twins"
}

# One that looks for partitions waits for the file system with all that it holds.
test_hung() {
	lb_step "a file system that hangs keeps nobody from other disks"
	local below hung=/run/hung disk other attaching wait
	below=$(lb_ramdisk 64)
	mkfs.ext4 -q -F "$below"
	mkdir -p $hung
	mount "$below" $hung
	dd if=/dev/zero of=$hung/a bs=1M count=4 conv=fsync status=none
	truncate -s 16M "$ext4/other"
	disk=$(cp_loop "$ext4/other")
	dmsetup suspend --noflush --nolockfs "${below##*/}"
	blk-copy loop attach -P $hung/a >/run/attached &
	attaching=$!
	sleep 1
	[ -d /proc/$attaching ] || lb_fail "it did not hang"
	other=$(timeout 30 blk-copy loop attach "$ext4/other") || lb_fail "nobody can attach a file"
	timeout 30 blk-copy loop resize "$other" || lb_fail "nobody can resize a disk"
	timeout 30 blk-copy loop detach "$other" || lb_fail "nobody can detach a disk"
	timeout 30 blk-copy loop detach "$disk" || lb_fail "nobody can detach an older disk"
	timeout 30 blk-copy loop list --json | jq -e . >/dev/null || lb_fail "nobody can list the disks"
	# Who waits for that one can be told to stop.
	wait=0
	timeout -s KILL 2 blk-copy loop detach /dev/loopc1 2>/dev/null || wait=$?
	[ $wait = 137 ] || lb_fail "detaching a disk that is being made ended with $wait"
	dmsetup resume "${below##*/}"
	wait $attaching || lb_fail "it was not attached in the end"
	[ "$(</run/attached)" = /dev/loopc1 ] || lb_fail "it is $(</run/attached)"
	cp_loop_detach "$(</run/attached)"
	umount $hung
	rm "$ext4/other"
}

refused_beyond() { # DISK
	local disk=$1
	must_give "Input/output error" if=/dev/urandom of="$disk" bs=4k seek=1024 count=1 oflag=direct conv=notrunc
	must_give "Input/output error" if=/dev/urandom of="$disk" bs=64k seek=$((4 * mib - 32768))B count=1 oflag=direct conv=notrunc
	must_give "Input/output error" if="$disk" of=/dev/null bs=4k skip=1024 count=1 iflag=direct
	must_fail "Input/output error" blkdiscard -o $((8 * mib)) -l $mib "$disk"
	must_fail "Input/output error" blkdiscard -z -o $((8 * mib)) -l $mib "$disk"
	must_fail "Input/output error; 0 of" blk-copy "$disk" "$disk:8m" 1m
	must_fail "Input/output error; 524288 of" blk-copy "$disk" "$disk:3584k" 1m
}

# What lies beyond the new end is not there any more, and does not come back by itself.
test_shortened() { # FILE [OPTION]...
	local file=$1
	lb_step "$file is shortened, ${*:2}"
	truncate -s 16M "$file"
	disk=$(cp_loop "$@")
	cp_fill "$disk" 0 $((8 * mib))
	truncate -s 4M "$file"
	refused_beyond "$disk"
	[ "$(stat -c %s "$file")" = $((4 * mib)) ] || lb_fail "$file has $(stat -c %s "$file") bytes"
	[ "$(($(stat -c %b "$file") * 512))" -le $((4 * mib + 65536)) ] || lb_fail "$file has blocks beyond its end"
	cp_fill "$disk" $((3 * mib)) $mib
	blk-copy "$disk" "$disk:3m" 1m
	truncate -s 16M "$file"
	cp_fill "$disk" $((8 * mib)) $mib
	cp_loop_detach "$disk"
	rm "$file"
}

attach_and_warn() { # SIZE WANTED-SIZE WARNING [OPTION]...
	local size=$1 wanted=$2 warning=$3
	shift 3
	truncate -s "$size" "$dir/rest"
	disk=$(blk-copy loop attach "$@" "$dir/rest" 2>/run/warning) || lb_fail "$size bytes: $(</run/warning)"
	[[ $(</run/warning) =~ $warning ]] || lb_fail "$size bytes, $*: '$(</run/warning)', not '$warning'"
	[ "$(blockdev --getsize64 "$disk")" = "$wanted" ] || lb_fail "$size bytes, $*: $(blockdev --getsize64 "$disk") on the disk"
	cp_loop_detach "$disk"
}

test_rest() {
	lb_step "files that do not fill their last block, and block sizes"
	local size
	attach_and_warn 1 0 "warning: '.*rest': it is smaller than a block of 512 bytes"
	attach_and_warn 511 0 "smaller than a block"
	attach_and_warn 512 512 '^$'
	attach_and_warn 0 0 '^$'
	attach_and_warn 1000 512 "the last 488 bytes are no block of 512"
	attach_and_warn 12800 12288 "the last 512 bytes are no block of 4096" -b 4k
	for size in 8192 768 256 0 5G; do
		must_fail "attach '.*rest': a block size of [0-9]+ is not possible: .* power of two from 512 to 4096" \
			blk-copy loop attach -b $size "$dir/rest"
	done
	rm "$dir/rest"
}

# One submission has requests for the disk below, as many as that has tags, and requests for a disk on it, for which the
# file system has to read a block of its own: that one waits for a tag, and the others must not wait for it.
test_plug() {
	lb_step "requests for the disk below in the same submission"
	local below=/dev/vda queue=/sys/block/vda/queue mounted=/run/below disk fio
	[ -b "$below" ] || lb_fail "no $below"
	mkdir -p "$mounted"
	modprobe ext4
	mkfs.ext4 -q -F -b 4096 "$below"
	mount "$below" "$mounted"
	# Every second block is a hole: too many extents for the inode.
	fio --name=holes --filename="$mounted/disk" --rw=write:64k --bs=64k --size=8m --end_fsync=1 --minimal --output=/run/fio-holes
	umount "$mounted"
	mount "$below" "$mounted"
	echo none >$queue/scheduler
	echo 4 >$queue/nr_requests
	disk=$(cp_loop "$mounted/disk")
	# Every other request is for the disk below, eight at a time.
	taskset -c 0 fio --name=plug --filename="$disk:$below" --file_service_type=roundrobin --size=16m --rw=randread --bs=4k \
		--direct=1 --ioengine=io_uring --iodepth=8 --iodepth_batch_submit=8 --number_ios=64 --minimal --output=/run/fio-plug &
	fio=$!
	for _ in {1..150}; do
		[ -d "/proc/$fio" ] || break
		sleep 0.2
	done
	[ ! -d "/proc/$fio" ] || {
		cat "/proc/$fio"/task/*/stack
		lb_fail "the submitter waits for what it has not sent"
	}
	wait "$fio" || lb_fail "fio: $(cat /run/fio-plug)"
	cp_loop_detach "$disk"
	umount "$mounted"
}

cp_load loop-copy
test_plug
dir=$(lb_scratch 400 xfs)
ext4=$(lb_scratch 100 ext4)
truncate -s 96M "$dir/a.img"
disk=$(cp_loop "$dir/a.img")
test_shares
test_two_disks
test_discard
truncate -s 400M "$dir/a.img"
blk-copy loop resize "$disk"
test_files ext4
test_files xfs
test_partitions
test_autoclear_partitions
test_frozen
test_hung
test_rest
for file in "$dir" "$ext4" "$(lb_scratch 300 btrfs)" "$(lb_scratch 64 tmpfs)"; do test_shortened "$file/short"; done
test_shortened "$ext4/short" --buffered
test_module
test_unshared
test_forms
test_buffered
test_stable
test_twins
umount "$dir" "$ext4"
cp_unload loop-copy
