#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: with udev at work, an interposed disk keeps its names, and the disks with the same content get none
# needs: dmsetup udevadm mkfs.ext4 blkid
# timeout: 300
# cpus: 1
# disks: 128M 128M
# one-thread: yes
# boot: own
set -eu -o pipefail
# shellcheck source=tests/vm/interposer/lib.sh
. tests/vm/interposer/lib.sh

uuid=6b11c4d0-5f43-4b0e-9d9b-0f6a3c1f2e77
link=/dev/disk/by-uuid/$uuid

must_be_vda() { # WHEN
	udevadm settle
	[ "$(readlink -f "$link")" = /dev/vda ] || lb_fail "$1: $link is $(readlink -f "$link")"
}

mkdir -p /run/udev/rules.d
cp userspace/blk-interpose/59-blk-interposer.rules /run/udev/rules.d/
# As on a host: device-mapper works with udev.
unset DM_DISABLE_UDEV
/lib/systemd/systemd-udevd --daemon
lb_load_interposer
mkfs.ext4 -q -U "$uuid" /dev/vda
udevadm trigger --action=change --sysname-match=vda
must_be_vda "before"
mount "$link" "$bi_mnt"

lb_step "a target"
blk-interpose create top --table "0 $(bi_sectors /dev/vda) linear [interpose]/dev/vda 0"
must_be_vda "attached"
lower=$(blk-interpose list --json | sed -n 's|.*"lower": "/dev/\(.*\)",|\1|p')
udevadm info "/dev/$lower" | grep -q SYSTEMD_READY=0 || lb_fail "the lower disk looks like any other"
# As if somebody had written to them.
udevadm trigger --action=change --subsystem-match=block
must_be_vda "after a change of all"
blk-interpose remove top
must_be_vda "detached"

lb_step "a snapshot"
blk-interpose snapshot /dev/vda moment --cow /dev/vdb
must_be_vda "with a snapshot"
udevadm trigger --action=change --subsystem-match=block
must_be_vda "with a snapshot, after a change of all"
[ -b /dev/mapper/moment ] || lb_fail "the snapshot has no node"
blk-interpose remove moment
must_be_vda "at the end"
umount "$bi_mnt"
bi_none_left
lb_unload_interposer
udevadm control --exit
