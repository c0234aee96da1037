# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# LVM in a VM without udev, on /dev/vda and no other disk, as the guide to blk-interposer says.

lvm_setup() {
	export LVM_SYSTEM_DIR=/run/lvm-conf
	mkdir -p "$LVM_SYSTEM_DIR" /run/lock
	cat >"$LVM_SYSTEM_DIR/lvm.conf" <<-'C'
	devices { use_devicesfile = 0
	          global_filter = [ "a|^/dev/vda$|", "r|.*|" ] }
	activation { udev_sync = 0
	             udev_rules = 0
	             verify_udev_operations = 0
	             monitoring = 0 }
	C
}
