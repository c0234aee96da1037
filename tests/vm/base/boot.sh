#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: the VM has what tests rely on: mounts, RAM disks, file systems, dm targets; modules refuse kernels not tested on
# needs: dmsetup mkfs.ext4 mkfs.xfs mkfs.btrfs qemu-img jq
# timeout: 300
# debug: yes
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh

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

# This kernel, to modules that were tested on others, whose names are as long.
tested=$(sed -n 's/^#define LIVEBLK_TESTED_KERNELS "\(.*\)"$/\1/p' kernel/compat/tested.h)
other=$(tr '0-9' 9 <<<"$tested")
lb_step "a kernel that the modules were not tested on"
modprobe dm-mod
modprobe configfs || true # built into debug kernels
modules=(blk-copy file-io dm-qcow2 loop-copy null-copy blk-interposer)
for name in "${modules[@]}"; do
	LC_ALL=C sed "s/${tested//./\\.}/$other/" "$LIVEBLK_BUILD/modules/$KVER/$name.ko" >"$lb_state/$name.ko"
	mark_log
	must_fail "not supported" insmod "$lb_state/$name.ko"
	must_be_logged "this kernel is ${KVER//[+.]/.}, and ${name//-/_} was tested on ${other//./\\.}: not loaded without force=1"
	[ ! -e "/sys/module/${name//-/_}" ] || lb_fail "$name is loaded"
	mark_log
	insmod "$lb_state/$name.ko" force=1
	must_be_logged "this kernel is ${KVER//[+.]/.}, and ${name//-/_} was tested on ${other//./\\.}: loaded by force"
	case $name in blk-copy | file-io) ;; *) rmmod "$name" ;; esac
done
rmmod file-io blk-copy
for name in "${modules[@]}"; do
	mark_log
	insmod "$LIVEBLK_BUILD/modules/$KVER/$name.ko"
	! log_since_mark | grep -q "was tested on" || lb_fail "$name does not know $KVER"
done
