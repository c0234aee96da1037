#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: what a container does to a disk of loop-copy is charged to it, and held to its limits, as with the loop driver
# needs: losetup mkfs.ext4 jq
# timeout: 200
# mem: 2G
# disks: 256M
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/copy/lib.sh
. tests/vm/copy/lib.sh

below=/dev/vda
mnt=/run/below
groups=/run/groups
number=$(cat /sys/block/vda/dev)
# A second and a half at the limit.
bytes=$((6 * mib))
limit=$((4 * mib))

new_disk() { # loop|loop-copy FILE direct|buffered: sets disk
	truncate -s 32M "$2"
	case $1-$3 in
	loop-direct) disk=$(losetup -f --show --direct-io=on "$2") ;;
	loop-buffered) disk=$(losetup -f --show "$2") ;;
	loop-copy-direct) disk=$(cp_loop "$2") ;;
	loop-copy-buffered) disk=$(cp_loop --buffered "$2") ;;
	esac
}

remove_disk() {
	case $disk in
	/dev/loopc*) cp_loop_detach "$disk" ;;
	*) losetup -d "$disk" ;;
	esac
}

stat_of() { # KEY: of I/O on the disk below
	tr ' ' '\n' <"$group/io.stat" | sed -n "/^$number\$/,\$s/^$1=//p" | head -n 1
}

# Runs it in a group that is limited; sets charged (bytes below), pages and seconds (times 10).
in_group() { # COMMAND...
	local began ended
	group=$groups/contained
	mkdir "$group"
	echo "$number wbps=$limit" >"$group/io.max"
	began=$(cut -d' ' -f1 /proc/uptime | tr -d .)
	(
		echo "$BASHPID" >"$group/cgroup.procs"
		exec "$@"
	) || lb_fail "$*"
	ended=$(cut -d' ' -f1 /proc/uptime | tr -d .)
	charged=$(stat_of wbytes)
	charged=${charged:-0}
	pages=$(sed -n 's/^file //p' "$group/memory.stat")
	seconds=$(((ended - began) / 10))
	rmdir "$group"
}

report() { # WHAT DRIVER
	echo "$1, $2: $charged bytes charged, $pages bytes of page cache, $((seconds / 10)).$((seconds % 10)) s"
}

# Blocks that the file has not got yet, so that a worker does it; then those that it has.
write_direct() { # DRIVER
	local what
	new_disk "$1" "$mnt/$1" direct
	for what in "new blocks" "old blocks"; do
		in_group dd if=/dev/zero of="$disk" bs=64k count=$((bytes / 65536)) oflag=direct conv=notrunc status=none
		report "$what" "$1"
		((charged >= bytes)) || lb_fail "$1, $what: only $charged bytes are charged"
		((seconds >= 12)) || lb_fail "$1, $what: the limit was not kept"
	done
	remove_disk
}

# Pages of the disk that are dirty when the program has ended.
write_back() { # DRIVER
	new_disk "$1" "$mnt/$1" direct
	in_group dd if=/dev/zero of="$disk" bs=64k count=$((bytes / 65536)) conv=notrunc,fsync status=none
	report "fsync" "$1"
	((charged >= bytes)) || lb_fail "$1, fsync: only $charged bytes are charged"
	((seconds >= 12)) || lb_fail "$1, fsync: the limit was not kept"
	remove_disk
}

# The page cache of the file.
cache() { # DRIVER
	new_disk "$1" "$mnt/$1-cached" buffered
	in_group dd if=/dev/zero of="$disk" bs=64k count=$((bytes / 65536)) oflag=direct conv=notrunc status=none
	report "page cache" "$1"
	((pages >= bytes * 9 / 10)) || lb_fail "$1: only $pages bytes of page cache are charged"
	remove_disk
}

copy() {
	new_disk loop-copy "$mnt/copied" direct
	cp_fill "$disk" 0 "$bytes"
	in_group blk-copy "$disk" "$disk:16m" "$bytes"
	report "copy" loop-copy
	((charged >= bytes)) || lb_fail "copy: only $charged bytes are charged"
	((seconds >= 12)) || lb_fail "copy: the limit was not kept"
	cp_same "$disk" 0 "$disk" $((16 * mib)) "$bytes"
	remove_disk
}

modprobe loop || lb_fail "no loop"
modprobe ext4 || lb_fail "no ext4"
cp_load loop-copy
mkdir -p $mnt $groups
mkfs.ext4 -q -F $below
mount $below $mnt
mount -t cgroup2 none $groups
grep -qw io $groups/cgroup.controllers || lb_skip "no I/O controller"
echo "+io +memory" >$groups/cgroup.subtree_control
for driver in loop loop-copy; do
	lb_step "$driver"
	write_direct $driver
	rm $mnt/$driver
	write_back $driver
	cache $driver
done
copy
umount $mnt $groups
cp_unload loop-copy
