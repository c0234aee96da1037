# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What the VM tests share; sourced by them, as root in a VM.
: "${LIVEBLK_BUILD:?run this in a VM: scripts/vm run, or make check TEST=name}"

# Counters live in files, because the functions are called in $( ).
lb_state=/run/lb
mkdir -p "$lb_state"

# With the seconds since boot, to see what takes long.
lb_step() { echo "== $* (at $(cut -d. -f1 /proc/uptime) s)"; }

lb_fail() {
	local i
	echo "FAIL: $*" >&2
	for ((i = 1; i < ${#FUNCNAME[@]}; i++)); do
		echo "  at ${BASH_SOURCE[i]}:${BASH_LINENO[i - 1]} (${FUNCNAME[i]})" >&2
	done
	exit 1
}

lb_skip() {
	echo "skipped: $*"
	exit 77
}

# A part that cannot be shown here; the test goes on. run-tests counts it as skipped. On stderr, because some functions
# are called in $( ).
lb_part_skipped() { # REASON
	echo "part skipped: $*" >&2
}

# Which of the tested kernels this one is: 0, 1... So that what is too much for one is shared out among them.
lb_kernel_number() {
	local v n=0 kernels
	read -r -a kernels < <(sed -n 's/^#define LIVEBLK_TESTED_KERNELS "\(.*\)"$/\1/p' kernel/compat/tested.h)
	for v in "${kernels[@]}"; do
		case $(uname -r) in "$v" | "$v"[.-]*) break ;; esac
		n=$((n + 1))
	done
	echo "$n"
}

# Whether the case with this number is for this kernel: in the short form each has every other one.
lb_turn() { # NUMBER
	[ "${LIVEBLK_FULL:-0}" = 1 ] || ((($1 + $(lb_kernel_number)) % 2 == 0))
}

lb_next() { # KIND: 0, 1, 2...
	local n=0
	[ ! -e "$lb_state/$1" ] || n=$(<"$lb_state/$1")
	echo $((n + 1)) >"$lb_state/$1"
	echo "$n"
}

# With those of ours that they need. Those that are loaded already are left.
lb_insmod() { # MODULE...
	local name ko needed
	for name; do
		[ ! -e "/sys/module/${name//-/_}" ] || continue
		ko=$LIVEBLK_BUILD/modules/$(uname -r)/$name.ko
		[ -e "$ko" ] || lb_fail "$ko is not built"
		for needed in $(modinfo -F depends "$ko" | tr , ' '); do
			[ ! -e "${ko%/"$name.ko"}/$needed.ko" ] || lb_insmod "$needed"
		done
		insmod "$ko" || lb_fail "$ko cannot be loaded"
	done
}

# Nothing attached, so that nothing may hold it. blk-copy and file-io go with the last that uses them.
lb_rmmod() { # MODULE...
	local name
	for name; do rmmod "$name" || lb_fail "$name cannot be unloaded"; done
	for name in dm_qcow2 blk_interposer loop_copy null_copy; do
		[ ! -e "/sys/module/$name" ] || return 0
	done
	for name in file-io blk-copy; do
		[ ! -e "/sys/module/${name//-/_}" ] || rmmod "$name" || lb_fail "$name cannot be unloaded"
	done
}

lb_load() {
	modprobe dm-mod || lb_fail "dm-mod cannot be loaded"
	lb_insmod blk-copy dm-qcow2
}

lb_unload() { lb_rmmod dm-qcow2; }

lb_load_interposer() {
	modprobe dm-mod || lb_fail "dm-mod cannot be loaded"
	lb_insmod blk-copy blk-interposer
}

lb_unload_interposer() { lb_rmmod blk-interposer; }

# lb_image FILE SIZE [OPTION=VALUE | -o OPTION=VALUE]...
lb_image() {
	local file=$1 size=$2 options=()
	shift 2
	while [ $# -gt 0 ]; do
		[ "$1" != -o ] || shift
		options+=(-o "$1")
		shift
	done
	qemu-img create -q -f qcow2 "${options[@]}" "$file" "$size" || lb_fail "cannot create $file"
}

# Says of an image with a data file that this is raw. Right where nothing is mapped and the file is all zeros.
lb_raw_bit() { printf '\002' | dd of="$1" bs=1 seek=95 conv=notrunc status=none; } # IMAGE

# As its header says: qemu-img takes ten times as long to start as od, and this is asked at each attach.
lb_sectors() { # IMAGE
	local bytes
	bytes=$(od -An -tu8 --endian=big -j 24 -N 8 "$1") || lb_fail "cannot read $1"
	echo $((bytes / 512))
}

lb_table() { # IMAGE [ARGUMENT...]
	local image=$1
	shift
	echo "0 $(lb_sectors "$image") qcow2 ${image// /\\ }${1:+ $# $*}"
}

lb_attach() { # NAME IMAGE [ARGUMENT...]
	local name=$1 table
	shift
	table=$(lb_table "$@") || exit 1
	dmsetup create "$name" --table "$table" || lb_fail "cannot attach $1 as $name"
}

lb_detach() { dmsetup remove "$1" || lb_fail "cannot detach $1"; }

lb_check() { # IMAGE
	qemu-img check -q -f qcow2 "$1" && return
	qemu-img check -f qcow2 "$1" >&2 || true
	lb_fail "qemu-img check is not content with $1"
}

# A disk of its own in memory; all brd disks have one size, so this is a slice.
lb_ramdisk() { # SIZE_MIB
	local n name
	modprobe brd || lb_fail "brd cannot be loaded"
	n=$(lb_next ramdisk)
	name=lb-ram$n
	[ -b "/dev/ram$n" ] || lb_fail "there are no more than $n RAM disks"
	dmsetup create "$name" --table "0 $(($1 * 2048)) linear /dev/ram$n 0" >&2 || lb_fail "no slice of /dev/ram$n"
	echo "/dev/mapper/$name"
}

# The disk in memory of scsi_debug, which takes nothing smaller than 4 KiB; rmmod scsi_debug removes it.
lb_4kn_disk() { # SIZE_MIB
	local block disk _
	modprobe sd_mod || lb_fail "sd_mod cannot be loaded"
	modprobe scsi_debug sector_size=4096 physblk_exp=0 dev_size_mb="$1" delay=0 lbpu=1 ||
		lb_fail "scsi_debug cannot be loaded"
	for _ in {1..100}; do
		block=$(echo /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*:*/block/*)
		[ ! -d "$block" ] || break
		sleep 0.1
	done
	disk=/dev/${block##*/}
	[ -b "$disk" ] || lb_fail "scsi_debug gave no disk"
	[ "$(blockdev --getss "$disk")" = 4096 ] || lb_fail "$disk has not 4 KiB sectors"
	echo "$disk"
}

# An overlayfs within a mounted file system, which keeps what is written there.
lb_overlay() { # DIRECTORY
	modprobe overlay || lb_fail "no overlayfs"
	mkdir -p "$1"/{lower,upper,work,merged}
	mount -t overlay -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" none "$1/merged" ||
		lb_fail "no overlayfs on $1"
	echo "$1/merged"
}

lb_scratch() { # SIZE_MIB ext4|xfs|btrfs|tmpfs
	local dir disk
	dir=$lb_state/scratch$(lb_next scratch)
	mkdir "$dir"
	if [ "$2" = tmpfs ]; then
		mount -t tmpfs -o "size=$1M" scratch "$dir" || lb_fail "no tmpfs"
		echo "$dir"
		return
	fi
	modprobe "$2" || lb_fail "$2 cannot be loaded"
	disk=$(lb_ramdisk "$1") || exit 1
	case $2 in
	ext4) mkfs.ext4 -q "$disk" ;;
	xfs) if [ "$1" -lt 300 ]; then mkfs.xfs --unsupported -q "$disk"; else mkfs.xfs -q "$disk"; fi ;;
	btrfs) if [ "$1" -lt 256 ]; then mkfs.btrfs -q -M "$disk"; else mkfs.btrfs -q "$disk"; fi ;;
	*) lb_fail "no file system $2" ;;
	esac >&2 || lb_fail "mkfs.$2 on $disk of $1 MiB"
	mount -t "$2" "$disk" "$dir" || lb_fail "cannot mount $2"
	echo "$dir"
}
