#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: whoever reads an image file, past the page cache, through it or by its holes, gets the same bytes
# needs: qemu-img dmsetup mkfs.xfs mkfs.ext4 mkfs.btrfs python3
# timeout: 900
# mem: 3G
# cpus: 1
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/copy/lib.sh
. tests/vm/copy/lib.sh

name=read0
device=/dev/mapper/$name
seed=${LIVEBLK_SEED:-$((RANDOM * 32768 + RANDOM))}
ops=80
[ ! -e /sys/kernel/debug/kmemleak ] || ops=30

cat >/run/ways.py <<'E'
import fcntl, mmap, os, random, struct, subprocess, sys

BLOCK, MIB = 4096, 1 << 20
BLKDISCARD = 0x1277


def direct(path, size):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    out, buf = bytearray(), mmap.mmap(-1, MIB)
    while len(out) < size:
        n = os.preadv(fd, [buf], len(out))
        if not n:
            break
        out += buf[:n]
    os.close(fd)
    return bytes(out)


def by_holes(path, size):
    fd = os.open(path, os.O_RDONLY)
    out, pos = bytearray(size), 0
    while pos < size:
        try:
            data = os.lseek(fd, pos, os.SEEK_DATA)
        except OSError:
            break
        pos = os.lseek(fd, data, os.SEEK_HOLE)
        out[data:pos] = os.pread(fd, pos - data, data)
    os.close(fd)
    return bytes(out)


def program(path, size, *command):
    copy = "/run/ways.copy"
    subprocess.run([*command, path, copy], check=True)
    with open(copy, "rb") as f:
        out = f.read()
    os.unlink(copy)
    return out


def cached(path, size):
    with open(path, "rb") as f:
        return f.read()


# What is in the page cache is data to those who ask for holes, so nothing may be left there.
def compare(path, when):
    size, bad = os.stat(path).st_size, False
    fd = os.open(path, os.O_RDONLY)
    want = direct(path, size)
    for way, read in (
        ("SEEK_DATA", lambda: by_holes(path, size)),
        ("cp --sparse=always", lambda: program(path, size, "cp", "--sparse=always")),
        ("qemu-img convert", lambda: program(path, size, "qemu-img", "convert", "-U", "-f", "raw", "-O", "raw")),
        ("page cache", lambda: cached(path, size)),
    ):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        got = read()
        wrong = [at for at in range(0, size, BLOCK) if got[at:at + BLOCK] != want[at:at + BLOCK]]
        if wrong:
            bad = True
            zeros = sum(not any(got[at:at + BLOCK]) for at in wrong)
            print(f"{when}: {way}: {len(wrong)} of {size // BLOCK} blocks differ, {zeros} are zeros; first at {wrong[0]}")
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    sys.exit(bad)


# Writes of parts of blocks and more, and discards, all over the beginning of the disk.
def change(path, seed, ops, span):
    rnd = random.Random(int(seed))
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    buf = mmap.mmap(-1, MIB)
    buf[:] = rnd.randbytes(MIB)
    for _ in range(int(ops)):
        if rnd.random() < 0.3:
            at = rnd.randrange(0, int(span), 65536)
            fcntl.ioctl(fd, BLKDISCARD, struct.pack("QQ", at, rnd.choice((65536, 65536, 262144))))
        else:
            n = rnd.choice((512, 1536, 4096, 20480))
            os.pwritev(fd, [memoryview(buf)[:n]], rnd.randrange(0, int(span), 512))
    os.close(fd)


{"compare": compare, "change": change}[sys.argv[1]](*sys.argv[2:])
E

failed=0
# All cases are looked at, so that one run shows which are wrong.
ways() { python3 -S -E /run/ways.py compare "$1" "$2" || failed=$((failed + 1)); } # FILE WHEN

change() { # DISK
	seed=$((seed + 1))
	python3 -S -E /run/ways.py change "$1" "$seed" "$ops" $((4 * mib)) || lb_fail "seed $seed: the disk fails"
}

suspended() { # IMAGE WHAT
	dmsetup suspend "$name"
	ways "$1" "$2, suspended, seed $seed"
	dmsetup resume "$name"
}

detached() { # IMAGE WHAT
	dd if="$device" of=/run/guest bs=1M iflag=direct status=none
	lb_detach "$name"
	ways "$1" "$2, detached, seed $seed"
	qemu-img compare -q -f raw -F qcow2 /run/guest "$1" || { echo "$2: the guest's bytes are others"; failed=$((failed + 1)); }
	lb_check "$1"
}

test_qcow2() { # IMAGE WHAT
	lb_step "$2"
	lb_attach "$name" "$1"
	cp_fill "$device" 0 $((4 * mib))
	change "$device"
	dmsetup suspend "$name"
	qemu-img snapshot -c before "$1"
	dmsetup resume "$name"
	change "$device"
	blk-copy --emulate=auto --json "$device" "$device:5m" 1m >/dev/null
	suspended "$1" "$2"
	change "$device"
	detached "$1" "$2"
}

# Whose copy or original shares its extents before it is attached.
test_shared() { # IMAGE WHAT
	lb_step "$2"
	lb_attach "$name" "$1"
	change "$device"
	suspended "$1" "$2"
	change "$device"
	detached "$1" "$2"
}

synced() { # DISK
	python3 -c 'import os, sys; os.fsync(os.open(sys.argv[1], os.O_RDWR))' "$1"
}

test_loop() { # FILE WHAT TYPE
	lb_step "$2"
	local disk
	disk=$(cp_loop "$1")
	cp_fill "$disk" 0 $((4 * mib))
	change "$disk"
	blk-copy --emulate=auto --json "$disk" "$disk:5m" 1m >/dev/null
	change "$disk"
	synced "$disk"
	ways "$1" "$2, attached and synced, seed $seed"
	# A backup that shares extents with what is in use. Where that is not for an attached file, it is said.
	if [ "$3" != ext4 ]; then
		cp --reflink=always "$1" "$1.backup"
		change "$disk"
		if dmesg | grep -q "${1##*/}: has an extent size hint"; then
			lb_part_skipped "$2: a file with an extent size hint that is shared while attached is to be copied when detached"
		else
			synced "$disk"
			ways "$1" "$2, attached and synced after a backup, seed $seed"
		fi
		rm "$1.backup"
	fi
	change "$disk"
	cp_loop_detach "$disk"
	ways "$1" "$2, detached, seed $seed"
}

test_fs() { # TYPE
	local dir
	dir=$(lb_scratch 400 "$1")
	lb_image "$dir/a.qcow2" 8M
	test_qcow2 "$dir/a.qcow2" "$1, clusters of 64k"
	if [ "$1" != ext4 ]; then
		cp --reflink=always "$dir/a.qcow2" "$dir/b.qcow2"
		test_shared "$dir/b.qcow2" "$1, made by cp --reflink"
	fi
	if [ "$1" = xfs ]; then test_shared "$dir/a.qcow2" "$1, the original of cp --reflink"; fi
	lb_image "$dir/c.qcow2" 8M -o cluster_size=1M
	test_qcow2 "$dir/c.qcow2" "$1, clusters of 1M"
	truncate -s 6M "$dir/a.img"
	test_loop "$dir/a.img" "$1, loop-copy" "$1"
	# It gives its files an extent size hint.
	if [ "$1" = xfs ]; then
		qemu-img create -q -f raw "$dir/b.img" 6M
		test_loop "$dir/b.img" "$1, loop-copy on a file of qemu-img" "$1"
	fi
	umount "$dir"
}

lb_load
cp_load loop-copy
for fs in ${LIVEBLK_FS:-xfs ext4 btrfs}; do test_fs "$fs"; done
((failed == 0)) || lb_fail "$failed comparisons failed"
rmmod loop-copy
lb_unload
