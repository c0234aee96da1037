# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What the tests of blk-copy, loop-copy and null-copy share.
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh

export PATH=$LIVEBLK_BUILD/bin:$PATH
# shellcheck disable=SC2034 # for the tests that source this
mib=1048576

cp_configfs() {
	modprobe configfs || true
	mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config ||
		lb_fail "configfs cannot be mounted"
}

# cp_load MODULE...: blk-copy, and those of its drivers that are named
cp_load() {
	cp_configfs
	lb_insmod blk-copy "$@"
}

# Whatever still holds one of them is a fault.
cp_unload() { lb_rmmod "$@"; } # MODULE...

cp_null() { blk-copy null create "$@" || lb_fail "no null-copy disk: $*"; }
cp_null_remove() { blk-copy null remove "$1" || lb_fail "cannot remove the disk $1"; }
cp_fault() { echo "$2" >"/sys/kernel/config/null-copy/$1/faults" || lb_fail "no fault '$2'"; } # NAME FAULT

cp_loop() { blk-copy loop attach "$@" || lb_fail "cannot attach: $*"; }
cp_loop_detach() { blk-copy loop detach "$1" || lb_fail "cannot detach $1"; }

cp_attr() { cat "/sys/block/${1#/dev/}/copy/$2"; } # DISK ATTRIBUTE

# Random bytes that are not looked at again until they are compared.
cp_fill() { # DEVICE OFFSET BYTES
	dd if=/dev/urandom of="$1" bs=64k oflag=direct,seek_bytes seek="$2" count="$3" iflag=count_bytes,fullblock \
		status=none conv=notrunc || lb_fail "cannot fill $1"
}

# The sum of a range, past the page cache unless a flag says otherwise.
cp_sum() { # DEVICE OFFSET BYTES [FLAG]
	dd if="$1" bs=64k iflag="skip_bytes,count_bytes${4-,direct}" skip="$2" count="$3" status=none | sha256sum
}

cp_same() { # DEVICE OFFSET DEVICE OFFSET BYTES
	[ "$(cp_sum "$1" "$2" "$5")" = "$(cp_sum "$3" "$4" "$5")" ] ||
		lb_fail "$5 bytes at $2 of $1 and at $4 of $3 differ"
}
