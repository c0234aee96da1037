#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: queue limits are a disk's own: zeroes and discards beyond 4 GiB, after other tables, NOWAIT; the page cache is given up
# needs: qemu-img dmsetup blkdiscard fincore python3 mkfs.xfs
# timeout: 600
# mem: 3G
# cpus: 1
# disks: 64M
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/copy/lib.sh
. tests/vm/copy/lib.sh

name=limits0
device=/dev/mapper/$name
gib=$((1024 * mib))
# Within 8 GiB, on both sides of 4; the last one is behind.
marks="0 $((3 * gib)) $((4 * gib - 4096)) $((4 * gib)) $((5 * gib + 65536)) $((8 * gib - 4096)) $((8 * gib))"

cat >/run/marks.py <<'E'
import mmap, os, sys

what, path, *where = sys.argv[1:]
fd = os.open(path, os.O_RDWR | os.O_DIRECT)
buf = mmap.mmap(-1, 4096)
for at in map(int, where):
    if what == "write":
        buf[:] = b"mark" * 1024
        os.pwrite(fd, buf, at)
    else:
        os.preadv(fd, [buf], at)
        if (buf[:] == bytes(4096)) != (what == "zeros"):
            sys.exit(f"{path}: what is at {at} is {'not ' if what == 'zeros' else ''}zeros")
E
marks() { python3 /run/marks.py "$@" || lb_fail "marks: $*"; }

queue_of() { # DEVICE: its directory in sysfs
	printf '/sys/dev/block/%d:%d/queue\n' "0x$(stat -L -c %t "$1")" "0x$(stat -L -c %T "$1")"
}

# Every byte of 8 GiB is zero afterwards, and no other.
check_large() { # DEVICE WHAT
	lb_step "8 GiB of zeroes at once: $2"
	local most inside
	most=$(cat "$(queue_of "$1")/write_zeroes_max_bytes")
	((most > 0 && most < 4 * gib)) || lb_fail "write_zeroes_max_bytes is $most"
	most=$(cat "$(queue_of "$1")/discard_max_bytes")
	((most > 0 && most < 4 * gib)) || lb_fail "discard_max_bytes is $most"
	# shellcheck disable=SC2086
	marks write "$1" $marks
	read -ra inside <<<"$marks"
	blkdiscard -z -l $((8 * gib)) "$1"
	marks zeros "$1" "${inside[@]:0:6}"
	marks mark "$1" $((8 * gib))
	# shellcheck disable=SC2086
	marks write "$1" $marks
	blkdiscard -l $((8 * gib)) "$1"
	marks zeros "$1" "${inside[@]:0:6}"
	marks mark "$1" $((8 * gib))
}

test_large() {
	lb_image "$dir/a.qcow2" 10G
	lb_attach "$name" "$dir/a.qcow2"
	check_large "$device" "dm-qcow2 on a file"
	lb_detach "$name"
	lb_check "$dir/a.qcow2"
	rm "$dir/a.qcow2"
	qemu-img create -q -f qcow2 "$ram" 10G
	lb_attach "$name" "$ram"
	check_large "$device" "dm-qcow2 on a disk that cannot zero"
	lb_detach "$name"
	lb_check "$ram"
	truncate -s 10G "$dir/a.img"
	local disk
	disk=$(cp_loop -b 4096 "$dir/a.img")
	check_large "$disk" "loop-copy"
	lb_step "blk-interposer on it"
	blk-interpose create over --table "0 $((10 * gib / 512)) linear [interpose]$disk 0"
	check_large /dev/mapper/over "blk-interposer, from above"
	check_large "$disk" "blk-interposer, the original"
	blk-interpose remove over
	cp_loop_detach "$disk"
	disk=$(cp_null large size=10240 blocksize=4096)
	check_large "$disk" "null-copy"
	cp_null_remove large
}

# Some cannot be read on every disk.
limits_of() { { grep -rs . "$(queue_of "$device")/" || true; } | sed "s,.*/queue/,," | sort; }

# With another table before, the limits are the same as without.
check_reload() { # IMAGE WHAT TABLE
	lb_step "$2"
	local table
	table=$(lb_table "$1")
	dmsetup create "$name" --table "$table"
	limits_of >/run/limits.fresh
	dmsetup remove "$name"
	dmsetup create "$name" --table "$3"
	dmsetup load "$name" --table "$table"
	dmsetup suspend "$name"
	dmsetup resume "$name"
	limits_of >/run/limits.reloaded
	lb_detach "$name"
	diff /run/limits.fresh /run/limits.reloaded || lb_fail "$2: the limits are those of the table before"
	grep -q "^discard_granularity:65536" /run/limits.fresh || lb_fail "$2: $(grep discard /run/limits.fresh)"
	grep -q "^write_zeroes_max_bytes:0$" /run/limits.fresh && lb_fail "$2: it cannot write zeroes"
	return 0
}

test_reload() {
	local sectors image
	lb_image "$dir/b.qcow2" 32M
	for image in "$dir/b.qcow2" "$ram"; do
		sectors=$(lb_sectors "$image")
		check_reload "$image" "$image after a disk that cannot discard" "0 $sectors linear $other 0"
		check_reload "$image" "$image after a virtio disk" "0 $sectors linear /dev/vda 0"
		check_reload "$image" "$image after zeros" "0 $sectors zero"
	done
}

nowait() { # DEVICE: what a read that must not wait says
	python3 - "$1" <<-'E'
		import mmap, os, sys
		fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
		try:
		    print(os.preadv(fd, [mmap.mmap(-1, 4096)], 0, os.RWF_NOWAIT))
		except OSError as e:
		    print(os.strerror(e.errno))
	E
}

test_nowait() {
	lb_step "NOWAIT as the disk below"
	local delay
	modprobe dm-delay
	dmsetup create slow --table "0 $(blockdev --getsz "$ram") delay $ram 0 0"
	[ "$(nowait /dev/mapper/slow)" = "Operation not supported" ] || lb_fail "dm-delay has learned NOWAIT"
	lb_attach "$name" /dev/mapper/slow
	delay=$(nowait "$device")
	lb_detach "$name"
	dmsetup remove slow
	[ "$delay" = "Operation not supported" ] || lb_fail "NOWAIT over a disk that has none: $delay"
	lb_attach "$name" "$ram"
	[ "$(nowait "$device")" = 4096 ] || lb_fail "no NOWAIT: $(nowait "$device")"
	lb_detach "$name"
}

test_zoned() {
	lb_step "a zoned disk is refused"
	local disk
	disk=$(cp_null zoned size=64 zoned=1 zone_size=16 zone_nr_conv=2)
	qemu-img create -q -f qcow2 /run/small.qcow2 1M
	dd if=/run/small.qcow2 of="$disk" bs=64k oflag=direct conv=sync status=none
	must_fail "" dmsetup create "$name" --table "0 2048 qcow2 $disk"
	dmesg | grep -q "an image cannot be on a zoned device" || lb_fail "the reason is not told"
	cp_null_remove zoned
}

cached() { fincore -n -o PAGES "$1"; } # FILE

# Overwrites of a file that was just copied are tried at once, as those of any other.
test_page_cache() {
	lb_step "an image that was just copied"
	local before after _
	lb_image "$dir/c.qcow2" 16M
	lb_attach "$name" "$dir/c.qcow2"
	cp_fill "$device" 0 $((16 * mib))
	lb_detach "$name"
	# Written, so that no extents are shared.
	cp --reflink=never --sparse=never "$dir/c.qcow2" "$dir/d.qcow2"
	(($(cached "$dir/d.qcow2") > 1000)) || lb_fail "cp has left $(cached "$dir/d.qcow2") pages"
	lb_attach "$name" "$dir/d.qcow2"
	for _ in {1..50}; do
		(($(cached "$dir/d.qcow2") > 0)) || break
		sleep 0.1
	done
	dd if="$device" of=/dev/null bs=1M iflag=direct status=none
	before=$(dmsetup status "$name" | cut -d' ' -f12)
	dd if=/dev/urandom of="$device" bs=4k count=1000 oflag=direct status=none
	after=$(dmsetup status "$name" | cut -d' ' -f12)
	echo "$((after - before)) of 1000 writes took a worker; $(cached "$dir/d.qcow2") pages are left"
	((after - before < 200)) || lb_fail "$((after - before)) of 1000 writes took a worker"
	lb_detach "$name"
	lb_check "$dir/d.qcow2"
}

lb_load
cp_load loop-copy null-copy
lb_insmod blk-interposer
# Large enough for what keeps its space when it is zeroed.
big=$(cp_null big size=20480)
dir=/run/limits
mkdir "$dir"
modprobe xfs
mkfs.xfs -q -K "$big"
mount "$big" "$dir"
ram=$(lb_ramdisk 96)
other=$(lb_ramdisk 64)
qemu-img create -q -f qcow2 "$ram" 32M
test_nowait
test_zoned
test_page_cache
test_reload
test_large
umount "$dir"
cp_null_remove big
rmmod loop-copy null-copy blk-interposer
lb_unload
