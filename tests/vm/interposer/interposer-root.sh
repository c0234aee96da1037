#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: the disk of the root file system, and that of swap: nothing waits for itself, with all memory in use
# needs: dmsetup mkfs.ext4 e2fsck mkswap pivot_root python3 jq
# timeout: 800
# mem: 1G
# cpus: 1
# disks: 1G 512M
# one-thread: yes
# boot: own
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/interposer/lib.sh
. tests/vm/interposer/lib.sh

group=/sys/fs/cgroup/small
root=/run/newroot

# Programs with the libraries that they are linked with, and those that bash needs.
install_root() {
	local program lib
	mkdir -p "$root"/{dev,proc,sys,run,old,tmp,etc}
	for program in bash cat dd dmsetup sleep sync sha256sum grep mount umount blk-interpose rm; do
		program=$(command -v "$program")
		install -D "$program" "$root/bin/${program##*/}"
		ldd "$program" | grep -o '/[^ ]*' | while read -r lib; do
			[ -e "$root$lib" ] || install -D "$(readlink -f "$lib")" "$root$lib"
		done
	done
}

# As process 1 of a namespace whose root is the disk: what is not in memory has to be read from there.
in_root() { # SCRIPT
	# shellcheck disable=SC2016 # expanded by the other shell
	unshare -m bash -c '
		mount --make-rprivate /
		for d in dev proc sys run; do mount --rbind "/$d" "$1/$d"; done
		cd "$1"
		pivot_root . old
		cd /
		exec /bin/bash -eu -o pipefail -c "umount -l /old; $2"' - "$root" "$1"
}

limited() { # COMMAND...: in little memory, with what it runs
	# shellcheck disable=SC2016 # expanded by the other shell
	bash -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' - "$group" "$@"
}

# Twice as much memory as there is; every page is checked and written again, in no order.
hog='
import os, random, sys, zlib
pages = [os.urandom(4096) * 64 for _ in range(384)]
sums = [zlib.crc32(p) for p in pages]
open(sys.argv[2], "w").close()
rounds = 0
while not os.path.exists(sys.argv[1]):
    i = random.randrange(len(pages))
    if zlib.crc32(pages[i]) != sums[i]:
        sys.exit("a page is not what it was")
    pages[i] = os.urandom(4096) * 64
    sums[i] = zlib.crc32(pages[i])
    rounds += 1
print(rounds, "pages of memory were right")
'

start_hog() {
	mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup || lb_fail "no cgroups"
	echo +memory >/sys/fs/cgroup/cgroup.subtree_control || lb_fail "no memory controller"
	mkdir -p "$group"
	echo 48M >"$group/memory.max"
	rm -f "$lb_state"/hog-*
	limited python3 -c "$hog" "$lb_state/hog-stop" "$lb_state/hog-ready" >"$lb_state/hog-said" 2>&1 &
	hog_pid=$!
	for _ in {1..600}; do
		[ ! -e "$lb_state/hog-ready" ] || return 0
		kill -0 "$hog_pid" 2>/dev/null || break
		sleep 0.1
	done
	lb_fail "no memory in use: $(<"$lb_state/hog-said")"
}

stop_hog() {
	: >"$lb_state/hog-stop"
	wait "$hog_pid" || lb_fail "the memory: $(<"$lb_state/hog-said")"
	cat "$lb_state/hog-said"
}

test_swap() {
	lb_step "swap, with the tool in the memory that is swapped"
	local i redirected
	start_hog
	for ((i = 0; i < $(bi_count 3 30); i++)); do
		limited blk-interpose create swap0 --table "0 $(bi_sectors /dev/vdb) linear [interpose]/dev/vdb 0"
		redirected=$(blk-interpose status swap0 --json | jq .redirected)
		sleep 1
		(($(blk-interpose status swap0 --json | jq .redirected) > redirected)) || lb_fail "nothing is swapped through it"
		limited blk-interpose remove swap0
	done
	limited blk-interpose create swap0 --table "0 $(bi_sectors /dev/vdb) delay [interpose]/dev/vdb 0 5"
	sleep 1
	limited blk-interpose remove swap0
	bi_none_left
}

# The caches are dropped all the time, so that whatever the tool needs would have to be read while it waits.
test_root() {
	lb_step "the root file system, with swap in use"
	local cow dropper size
	cow=$(lb_ramdisk 256)
	size=$(bi_sectors /dev/vda)
	(while [ ! -e "$lb_state/root-done" ]; do echo 3 >/proc/sys/vm/drop_caches; sleep 0.05; done) &
	dropper=$!
	in_root "
		(while [ ! -e $lb_state/root-done ]; do dd if=/dev/zero of=/w bs=64k count=32 conv=fsync status=none; done) &
		writer=\$!
		for i in $(seq "$(bi_count 3 30)" | tr '\n' ' '); do
			blk-interpose create root0 --table '0 $size linear [interpose]/dev/vda 0'
			cat /bin/* | sha256sum >/sum.\$i
			blk-interpose remove root0
			blk-interpose snapshot /dev/vda root0 --cow $cow
			echo after >/after.\$i
			sync
			[ \$(cat /bin/* | sha256sum | dd bs=64 count=1 status=none) = \$(dd if=/sum.\$i bs=64 count=1 status=none) ]
			mount -o ro,noload /dev/mapper/root0 /tmp
			[ ! -e /tmp/after.\$i ]
			umount /tmp
			blk-interpose remove root0
		done
		: >$lb_state/root-done
		wait \$writer" || lb_fail "the root file system"
	wait "$dropper"
	bi_none_left
}

lb_load_interposer
bi_mkfs ext4 /dev/vda
mkdir -p "$root"
mount /dev/vda "$root"
install_root
mkswap -q /dev/vdb 2>/dev/null || mkswap /dev/vdb >/dev/null
swapon /dev/vdb
test_swap
test_root
stop_hog
swapoff /dev/vdb
umount "$root"
bi_fsck ext4 /dev/vda
lb_unload_interposer
