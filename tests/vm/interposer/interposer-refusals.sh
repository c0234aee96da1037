#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: what cannot be interposed is refused with its reason, failures leave nothing, unprivileged users get EPERM
# needs: dmsetup mkfs.ext4 mkfs.btrfs fsfreeze sfdisk setpriv python3
# timeout: 500
# boot: own
# cpus: 1
# disks: 256M 256M
# append: memmap=64M!1G
# one-thread: yes
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/interposer/lib.sh
. tests/vm/interposer/lib.sh

linear() { # NAME DEVICE
	blk-interpose create "$1" --table "0 $(bi_sectors "$2") linear [interpose]$2 0"
}

refused() { # PATTERN NAME TABLE
	must_fail "$1" blk-interpose create "$2" --table "$3"
	! dmsetup info "$2" >/dev/null 2>&1 || lb_fail "$2 is left"
	bi_none_left
}

test_targets() {
	lb_step "targets that do not fit"
	local sectors
	sectors=$(bi_sectors /dev/vda)
	refused "another size.*put back" x "0 $((sectors - 8)) linear [interpose]/dev/vda 0"
	refused "marked" x "0 $sectors linear /dev/vda 0"
	refused "no start" x "a $sectors linear [interpose]/dev/vda 0"
	refused "look up '/dev/nothing'" x "0 $sectors linear [interpose]/dev/nothing 0"
	refused "no block device" x "0 $sectors linear [interpose]/dev/null 0"
}

test_frozen() {
	lb_step "a file system that is frozen already"
	fsfreeze -f "$bi_mnt"
	must_fail "freeze the file system: .*frozen already.*put back" linear x /dev/vda
	fsfreeze -u "$bi_mnt"
	bi_none_left
	linear x /dev/vda
	fsfreeze -f "$bi_mnt"
	must_fail "frozen already" blk-interpose remove x
	fsfreeze -u "$bi_mnt"
	echo alive >"$bi_mnt/alive"
	sync
	blk-interpose remove x
	linear x /dev/vda
	fsfreeze -f "$bi_mnt"
	blk-interpose remove --no-freeze x
	fsfreeze -u "$bi_mnt"
	echo alive >"$bi_mnt/alive"
	sync
	bi_none_left
}

test_raid() {
	lb_step "a device that has the target of dm-raid"
	local a b sectors=16384
	bi_has_driver dm-raid || return 0
	a=$(lb_ramdisk 8) b=$(lb_ramdisk 8)
	dmsetup create raid --table "0 $sectors raid raid1 3 0 region_size 1024 2 - $a - $b"
	refused "'raid' target.*put back" x "0 $sectors linear [interpose]/dev/mapper/raid 0"
	dmsetup create above --table "0 $sectors linear /dev/mapper/raid 0"
	linear x /dev/mapper/above
	blk-interpose remove x
	dmsetup remove above
	dmsetup remove raid
}

test_own() {
	lb_step "our own disks, and a second pair"
	linear x /dev/vda
	local lower
	lower=$(blk-interpose list --json | sed -n 's/.*"lower": "\(.*\)",/\1/p')
	must_fail "disk of blk-interposer itself" linear y "$lower"
	must_fail "interposed already" linear y /dev/vda
	[ "$(blk-interpose list | wc -l)" = 2 ] || lb_fail "another pair is left"
	blk-interpose remove x
}

test_partitions() {
	lb_step "a disk and its partition exclude each other"
	bi_partition /dev/vdb
	linear x /dev/vdb1
	must_fail "interposed already" linear y /dev/vdb
	# A write to the disk there is seen to go past it.
	dd if=/dev/zero of=/dev/vdb bs=4k seek=1024 count=1 oflag=direct conv=notrunc status=none
	blk-interpose status x | grep -q "went past" || lb_fail "a write past the target is not reported"
	blk-interpose remove x
	linear x /dev/vdb
	must_fail "interposed already" linear y /dev/vdb1
	# And what goes to the partition goes through the target of the disk.
	local before after
	before=$(bi_written /dev/mapper/x)
	dd if=/dev/urandom of="$lb_state/data" bs=4k count=4 status=none
	dd if="$lb_state/data" of=/dev/vdb1 bs=4k count=4 oflag=direct conv=notrunc status=none
	after=$(bi_written /dev/mapper/x)
	[ $((after - before)) = 32 ] || lb_fail "the partition goes past the target: $((after - before)) sectors"
	dd if=/dev/vdb bs=512 skip=2048 count=32 iflag=direct status=none | cmp - "$lb_state/data" ||
		lb_fail "the partition's data are in another place"
	blk-interpose remove x
}

# What would wait for itself: found by the tool, and by the module where it can be.
test_loops() {
	lb_step "a target that is on its original"
	local sectors
	sectors=$(bi_sectors /dev/vdb)
	must_fail "on '/dev/vdb' itself.*put back" blk-interpose snapshot /dev/vdb x --cow /dev/vdb1
	dmsetup create part --table "0 8192 linear /dev/vdb1 0"
	dd if=/dev/zero of=/dev/mapper/part bs=64k count=1 oflag=direct status=none
	must_fail "some of it is on '/dev/vdb' itself.*put back" \
		blk-interpose create x --table "0 $sectors era /dev/mapper/part [interpose]/dev/vdb 128"
	dmsetup remove part
	must_fail "on '/dev/vda' itself.*put back" blk-interpose snapshot /dev/vda x --cow "$bi_mnt/new"
	[ ! -e "$bi_mnt/new" ] || lb_fail "a file is left"
	# A btrfs has no device number of its own.
	mkdir -p /run/btrfs
	bi_mkfs btrfs /dev/vdb1
	mount /dev/vdb1 /run/btrfs
	must_fail "on '/dev/vdb' itself.*put back" blk-interpose snapshot /dev/vdb x --cow /run/btrfs/new
	umount /run/btrfs
	bi_none_left
}

test_integrity() {
	lb_step "integrity data"
	if ! modprobe scsi_debug dif=1 dix=1 dev_size_mb=16 2>/dev/null; then
		bi_lacks "scsi_debug"
		return
	fi
	local disk=
	modprobe sd_mod
	for _ in {1..100}; do
		disk=$(lsblk -dno NAME,MODEL | awk '$2 == "scsi_debug" { print $1 }')
		[ -z "$disk" ] || break
		sleep 0.1
	done
	[ -n "$disk" ] || lb_fail "scsi_debug has no disk"
	if [ ! -e "/sys/block/$disk/integrity" ]; then
		bi_lacks "integrity data"
		return
	fi
	must_fail "integrity data" linear x "/dev/$disk"
	bi_none_left
}

# A pair of DEVICE for the module itself, and TARGET, which it must refuse with REASON. In TARGET, %s is the lower disk.
module_refuses() { # REASON DEVICE TARGET...
	local reason=$1 device=$2 id lower
	shift 2
	read -r id lower < <(interposer-call create "$device")
	dmsetup create bad --table "0 $(bi_sectors "$device") ${*//%s/$lower}" || lb_fail "no target $*"
	must_fail "step 1 reason $reason:" interposer-call attach "$id" /dev/mapper/bad 2000
	dmsetup remove bad
	interposer-call destroy "$id"
	bi_none_left
}

# Whoever calls the module by itself is told what blk-interpose would say.
test_module() {
	lb_step "what the module refuses by itself"
	local ram log id lower
	modprobe -a dm-delay dm-log-writes dm-multipath dm-round-robin dm-era
	ram=$(lb_ramdisk 256) log=$(lb_ramdisk 16)
	echo "a target that is on another disk"
	read -r id lower < <(interposer-call create /dev/vdb)
	dmsetup create there --table "0 $(bi_sectors /dev/vdb) linear $lower 0"
	dmsetup create elsewhere --table "0 $(bi_sectors /dev/vdb) linear $ram 0"
	must_fail "step 1 reason 15:" interposer-call attach "$id" /dev/mapper/elsewhere 2000
	dmsetup remove elsewhere
	# Somebody else that begins to use the original is none of it.
	dmsetup create user --table "0 8192 linear /dev/vdb 0"
	interposer-call attach "$id" /dev/mapper/there 2000 || lb_fail "the target is taken for a loop"
	interposer-call detach "$id" 2000 >/dev/null
	dmsetup remove there
	dmsetup remove user
	interposer-call destroy "$id"
	echo "a target that is on the original, and was before"
	dmsetup create part --table "0 8192 linear /dev/vdb 8192"
	dd if=/dev/zero of=/dev/mapper/part bs=64k count=1 oflag=direct status=none
	module_refuses 14 /dev/vdb era /dev/mapper/part %s 128
	dmsetup remove part
	echo "a driver above that sends requests"
	dmsetup create mp --table "0 $(bi_sectors /dev/vdb) multipath 0 0 1 1 round-robin 0 1 1 /dev/vdb 1"
	[ -d "/sys/block/$(bi_disk /dev/mapper/mp)/mq" ] || lb_fail "that multipath sends bios"
	module_refuses 22 /dev/vdb linear %s 0
	dmsetup remove mp
	echo "a target that needs buffers that are better aligned"
	modprobe null_blk nr_devices=2 gb=1 bs=4096 memory_backed=1
	module_refuses 24 /dev/nullb0 log-writes %s "$log"
	echo "a target that needs stable pages"
	echo 1 >/sys/block/nullb1/queue/stable_writes
	module_refuses 25 /dev/nullb0 delay %s 0 0 /dev/nullb1 0 0
	rmmod null_blk
}

test_dax() {
	lb_step "direct access"
	bi_has_driver nd_pmem || return 0
	modprobe nd_e820
	for _ in {1..50}; do [ ! -b /dev/pmem0 ] || break; sleep 0.2; done
	[ -b /dev/pmem0 ] || lb_fail "there is no persistent memory: $(</proc/cmdline)"
	[ "$(</sys/block/pmem0/queue/dax)" = 1 ] || lb_fail "pmem0 cannot be accessed directly"
	modprobe ext4
	# Direct access wants blocks of a page.
	mkfs.ext4 -q -F -b 4096 /dev/pmem0
	mkdir -p /run/pmem
	mount -o dax /dev/pmem0 /run/pmem
	must_fail "accessed directly|DAX" linear x /dev/pmem0
	must_fail "step 1 reason 23:" interposer-call create /dev/pmem0
	umount /run/pmem
	bi_none_left
}

# Somebody else who takes bios away before the hook sees them.
test_unseen() {
	lb_step "a hook that does not see what is sent to the original"
	local ram
	ram=$(lb_ramdisk 256)
	linear keeper "$(lb_ramdisk 8)"
	insmod "$LIVEBLK_BUILD/modules/$(uname -r)/tests/interposer-thief.ko" from=/dev/vdb to="$ram"
	must_fail "does not come to the hook.*put back" linear x /dev/vdb
	! dmsetup info x >/dev/null 2>&1 || lb_fail "x is left"
	rmmod interposer_thief
	linear x /dev/vdb
	blk-interpose remove x
	blk-interpose remove keeper
	bi_none_left
}

# The last one, as it stays loaded.
test_stuck_hook() {
	lb_step "ftrace does not let go of the hook"
	local before
	insmod "$LIVEBLK_BUILD/modules/$(uname -r)/tests/ftrace-stuck.ko"
	linear x /dev/vdb
	mark_log
	blk-interpose remove x
	must_be_logged "does not let go of the hook: error -16; this module cannot be unloaded"
	rmmod ftrace_stuck
	must_fail "in use" rmmod blk_interposer
	dd if=/dev/vdb of=/dev/null bs=4k count=16 iflag=direct status=none
	linear x /dev/vdb
	before=$(bi_written /dev/mapper/x)
	dd if=/dev/urandom of=/dev/vdb bs=64k count=1 oflag=direct status=none
	[ "$(($(bi_written /dev/mapper/x) - before))" = 128 ] || lb_fail "nothing is redirected any more"
	blk-interpose remove x
	must_fail "in use" rmmod blk_interposer
}

test_hook_denied() {
	lb_step "ftrace turned off"
	echo 0 >/proc/sys/kernel/ftrace_enabled
	must_fail "begin to redirect I/O: .*put back" linear x /dev/vda
	echo 1 >/proc/sys/kernel/ftrace_enabled
	bi_none_left
	linear x /dev/vda
	! echo 0 2>/dev/null >/proc/sys/kernel/ftrace_enabled || lb_fail "ftrace can be turned off under the hook"
	blk-interpose remove x
}

# At whatever moment it is killed: attached, or nothing but a device of device-mapper.
test_killed() {
	lb_step "the tool is killed"
	local i tool
	for ((i = 0; i < $(bi_count 6 200); i++)); do
		linear x /dev/vda >/dev/null &
		tool=$!
		sleep "0.$((RANDOM % 9))"
		kill -KILL "$tool" 2>/dev/null || true
		wait "$tool" 2>/dev/null || true
		# linear() is a shell of its own, whose child may go on.
		while pgrep -x blk-interpose >/dev/null; do pkill -KILL -x blk-interpose || true; done
		wait_for_rest
		if blk-interpose list | grep -q active; then blk-interpose remove x >/dev/null; fi
		dmsetup remove x 2>/dev/null || true
		bi_none_left
	done
	echo alive >"$bi_mnt/killed"
	sync
}

# Whoever owned a pair is gone; it follows soon.
wait_for_rest() {
	local _
	for _ in {1..100}; do
		! blk-interpose list | grep -qE 'idle|transition' || { sleep 0.1; continue; }
		return 0
	done
	lb_fail "a pair without an owner stays: $(blk-interpose list)"
}

test_unprivileged() {
	lb_step "without privileges, and with malformed calls"
	local ask
	must_fail "ermission" setpriv --reuid=65534 --clear-groups blk-interpose list
	chmod 666 /dev/blk-interposer
	must_fail "not permitted" setpriv --reuid=65534 --clear-groups blk-interpose list
	chmod 600 /dev/blk-interposer
	# A descriptor that root has opened: BLK_INTERPOSER_GET_VERSION, which root may ask for.
	exec 9<>/dev/blk-interposer
	ask='import fcntl; fcntl.ioctl(9, 0x8004b700, bytes(4))'
	python3 -c "$ask" || lb_fail "root may not ask"
	must_fail "Operation not permitted" setpriv --reuid=65534 --clear-groups python3 -c "$ask"
	exec 9>&-
	blk-interposer-fuzz "$(bi_count 20000 1000000)"
	bi_none_left
}

lb_load_interposer
bi_mkfs ext4 /dev/vda
mount /dev/vda "$bi_mnt"
test_targets
test_frozen
test_raid
test_own
test_partitions
test_loops
test_integrity
test_module
test_dax
test_unseen
test_hook_denied
test_killed
test_unprivileged
umount "$bi_mnt"
bi_fsck ext4 /dev/vda
lb_unload_interposer
lb_load_interposer
test_stuck_hook
