#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: an image on NFS is locked, and I/O to it ends with the lock
# needs: qemu-img qemu-io dmsetup
# timeout: 300
# boot: own
# first: yes
#
# The server is the same machine, without any of nfs-utils: what their daemons tell the kernel is written down here.
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh

name=nfs0
device=/dev/mapper/$name
mib=1048576
mnt=/run/liveblk-nfs
server=/proc/fs/nfsd
# Insecure ports, no check of subtrees, the root of all exports.
export_flags=$((0x2 | 0x400 | 0x2000))

tell_server() { # CACHE WORDS...
	local cache=$1
	shift
	echo "$*" >"/proc/net/rpc/$cache/channel" || lb_fail "the server does not take '$*' for $cache"
}

serve() { # DIRECTORY
	local version until=$(($(date +%s) + 86400))
	modprobe nfsd || lb_fail "no NFS server"
	mount -t nfsd nfsd "$server"
	echo 10 >"$server/nfsv4leasetime"
	echo 10 >"$server/nfsv4gracetime"
	# The older versions would be made known by a portmapper, and there is none.
	for version in 2 3; do echo "-$version" >"$server/versions" 2>/dev/null || true; done
	echo "tcp 2049" >"$server/portlist"
	tell_server auth.unix.ip nfsd 127.0.0.1 "$until" '*'
	tell_server nfsd.export '*' "$1" "$until" "$export_flags" 65534 65534 0
	tell_server nfsd.fh '*' 1 '\x00000000' "$until" "$1"
	echo 4 >"$server/threads"
}

# The server forgets all clients, as after they were cut off for longer than their lease.
lose_lease() {
	local client
	for client in "$server"/clients/*/ctl; do
		echo expire >"$client"
	done
}

test_lock_lost() { # IMAGE
	lb_step "I/O ends when the lock is lost"
	lb_attach "$name" "$1"
	# Through the page cache nobody would be told before the next flush.
	! dmesg | grep -q "no direct I/O" || lb_fail "it goes through the page cache"
	must_fail "lock" qemu-img info "$1"
	qemu-io -f raw -t none -c "write -q -P 5 0 1M" -c flush "$device"
	must_hold raw "$device" 5 0 $mib
	lose_lease
	# The client learns of it by what it asks the server next, and then again after it has got a new lease.
	dd if="$device" of=/dev/null bs=4k count=1 iflag=direct status=none 2>/dev/null || true
	sleep 3
	must_give "Input/output error" if=/dev/zero of="$device" bs=4k seek=8 count=1 oflag=direct conv=notrunc
	must_give "Input/output error" if="$device" of=/dev/null bs=4k skip=16 count=1 iflag=direct
	dmsetup remove "$name"
}

lb_load
dir=$(lb_scratch 200 ext4)
serve "$dir"
modprobe nfsv4 || lb_fail "no NFS client"
mkdir -p "$mnt"
mount -i -t nfs4 -o vers=4.2,addr=127.0.0.1,clientaddr=127.0.0.1 127.0.0.1:/ "$mnt" || lb_fail "cannot mount it"
lb_image "$mnt/disk.qcow2" 16M
lb_step "an image on NFS works"
lb_attach "$name" "$mnt/disk.qcow2"
must_fail "lock" qemu-img info "$mnt/disk.qcow2"
qemu-io -f raw -t none -c "write -q -P 4 4M 1M" -c flush "$device"
lb_detach "$name"
lb_check "$mnt/disk.qcow2"
must_hold qcow2 "$mnt/disk.qcow2" 4 $((4 * mib)) $mib
test_lock_lost "$mnt/disk.qcow2"
umount "$mnt"
lb_unload
