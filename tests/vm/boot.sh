#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: the VM has what tests rely on: mounts, RAM disks, file systems, dm targets
# needs: dmsetup mkfs.ext4 mkfs.xfs mkfs.btrfs qemu-img jq
# timeout: 300
# debug: yes
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh

lb_step "environment"
[ "$KVER" = "$(uname -r)" ] || lb_fail "KVER is $KVER"
[ "$(id -u)" = 0 ] || lb_fail "not root"
[ -w "$LIVEBLK_RESULTS" ] || lb_fail "no results directory"
for path in /proc /sys /dev /dev/pts /dev/shm /run /tmp /sys/kernel/debug; do
	mountpoint -q "$path" || lb_fail "$path is not mounted"
done
: >"$PWD/build/.written-in-the-vm"

lb_step "file systems"
for fs in tmpfs ext4 xfs btrfs; do
	dir=$(lb_scratch 384 $fs)
	[ "$(stat -f -c %T "$dir")" != overlayfs ] || lb_fail "$dir is not on $fs"
	head -c 1M /dev/urandom >"$dir/file"
	cmp "$dir/file" "$dir/file"
	umount "$dir"
done

lb_step "device-mapper targets"
for target in flakey delay snapshot era zero log-writes; do
	modprobe "dm-$target" || lb_fail "no dm-$target"
done
disk=$(lb_ramdisk 16)
[ "$(blockdev --getsize64 "$disk")" = $((16 << 20)) ] || lb_fail "$disk has another size"
