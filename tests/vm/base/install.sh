#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: make install and make uninstall: device-mapper finds the module by itself, man finds the page, nothing stays
# needs: qemu-img dmsetup depmod
# timeout: 300
# cpus: 1
# boot: own
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh

KVER=$(uname -r)
export KVER
installed=/lib/modules/$KVER/updates/liveblk/dm-qcow2.ko
page=/usr/local/share/man/man8/dm-qcow2.8

# depmod reads each module, of which there are thousands: leave those that are needed here.
fewer_modules() {
	local few=/run/few-modules name
	mkdir "$few"
	cp "/lib/modules/$KVER"/modules.{builtin,builtin.modinfo,order} "$few"
	for name in dm-mod brd ext4; do
		modprobe --show-depends "$name" | awk '$1 == "insmod" { print $2 }'
	done | sort -u | while read -r name; do
		install -D "$name" "$few/${name#/lib/modules/"$KVER"/}"
	done
	mount --bind "$few" "/lib/modules/$KVER"
	depmod "$KVER"
}

lb_step "a tree of few modules"
fewer_modules
# Not through make, which would build anew in the VM.
lb_step "install"
scripts/install install "" /usr/local
[ -e "$installed" ] || lb_fail "no $installed"
[ -e "$page" ] || lb_fail "no $page"

lb_step "the first table loads the module"
dir=$(lb_scratch 100 ext4)
lb_image "$dir/vm.qcow2" 16M
[ ! -e /sys/module/dm_qcow2 ] || lb_fail "the module is loaded already"
lb_attach inst0 "$dir/vm.qcow2"
[ -e /sys/module/dm_qcow2 ] || lb_fail "the module is not loaded, and the table was"
dd if=/dev/urandom of=/dev/mapper/inst0 bs=64k count=4 oflag=direct status=none
lb_detach inst0
modprobe -r dm-qcow2 || lb_fail "modprobe cannot remove the module"
lb_check "$dir/vm.qcow2"

lb_step "uninstall"
scripts/install uninstall "" /usr/local
[ ! -e "$installed" ] || lb_fail "$installed is still there"
[ ! -e "$page" ] || lb_fail "$page is still there"
[ -z "$(find /usr/local /lib/modules/*/updates -name '*qcow2*' 2>/dev/null)" ] || lb_fail "something of us has stayed"
modprobe dm-qcow2 2>/dev/null && lb_fail "modprobe still finds the module"
exit 0
