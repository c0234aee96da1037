#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: a life of an image in short: files, a snapshot under it, copy-on-write, discards, then on a block device
# needs: qemu-img fio mkfs.xfs mkfs.ext4 fstrim
# timeout: 300
# mem: 3G
# debug: yes
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh

mnt=/run/smoke
mkdir -p "$mnt"

write_files() { # NUMBER
	local i
	for ((i = 1; i <= $1; i++)); do
		dd if=/dev/urandom of="$mnt/f$i" bs=64k count=8 status=none
		sync
	done
}

lb_load

lb_step "files on XFS on an image on XFS"
dir=$(lb_scratch 500 xfs)
lb_image "$dir/vm.qcow2" 400M
lb_attach smoke "$dir/vm.qcow2"
mkfs.xfs -q /dev/mapper/smoke
mount /dev/mapper/smoke "$mnt"
write_files 4
sums=$(cat "$mnt"/f* | sha256sum)

lb_step "a snapshot while suspended, then copy-on-write"
dmsetup suspend smoke
qemu-img snapshot -c before "$dir/vm.qcow2"
dmsetup resume smoke
write_files 2
rm "$mnt/f3"
fstrim "$mnt"
fio --name=verify --directory="$mnt" --size=4M --rw=randrw --bs=4k --direct=1 --ioengine=libaio --iodepth=16 \
	--verify=crc32c --number_ios=300 --output=/dev/null || lb_fail "fio does not read what it wrote"
umount "$mnt"
lb_detach smoke
lb_check "$dir/vm.qcow2"

lb_step "the snapshot still has its content"
qemu-img snapshot -a before "$dir/vm.qcow2"
lb_attach smoke "$dir/vm.qcow2"
mount /dev/mapper/smoke "$mnt"
[ "$(cat "$mnt"/f* | sha256sum)" = "$sums" ] || lb_fail "the snapshot's files have changed"
umount "$mnt"
lb_detach smoke

lb_step "ext4 on an image on a block device"
disk=$(lb_ramdisk 128)
qemu-img create -q -f qcow2 "$disk" 96M
lb_attach smoke "$disk"
mkfs.ext4 -q /dev/mapper/smoke
mount /dev/mapper/smoke "$mnt"
write_files 4
rm "$mnt/f1"
fstrim "$mnt"
umount "$mnt"
lb_detach smoke
lb_check "$disk"
lb_unload
