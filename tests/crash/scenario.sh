# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What the crash tests share; sourced after tests/vm/lib.sh.

crash_bin=$LIVEBLK_BUILD/bin
crash_dir=/run/crash
crash_seed=${LIVEBLK_SEED:-$((RANDOM * 32768 + RANDOM))}
crash_tried=0
# A full campaign does everything so often, each time with another seed.
crash_times=1
[ "${LIVEBLK_FULL:-0}" != 1 ] || crash_times=${LIVEBLK_CRASH_TIMES:-2}
# In a VM that emulates its CPU, the byte-wise string instructions are slow out of proportion.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.cpu.hwcaps=-ERMS,-FSRM}

# crash_disks MIB: the disk that crashes, its log, and the disk it is rebuilt on.
crash_disks() {
	mkdir -p "$crash_dir"
	modprobe dm-log-writes || lb_fail "dm-log-writes cannot be loaded"
	crash_mib=$1
	crash_disk=$(lb_ramdisk "$1")
	crash_log=$(lb_ramdisk 768)
	crash_target=$(lb_ramdisk "$1")
	echo "seed $crash_seed (LIVEBLK_SEED)"
}

# What the host had there before must never come to light, so that it must not be zeros.
crash_poison() { # FROM-MIB
	local from=$1
	head -c "$((crash_mib - from))M" /dev/zero | tr '\0' '\333' |
		dd of="$crash_disk" bs=1M seek="$from" iflag=fullblock oflag=direct status=none
}

# Everything from here on is logged.
crash_log_start() {
	blockdev --flushbufs "$crash_disk"
	dd if="$crash_disk" of="$crash_dir/base" bs=1M iflag=direct conv=sparse status=none
	truncate -s "${crash_mib}M" "$crash_dir/base"
	dmsetup create crash-log --table "0 $(blockdev --getsz "$crash_disk") log-writes $crash_disk $crash_log"
	dmsetup mknodes crash-log
}

crash_log_stop() {
	local status
	status=$(dmsetup status crash-log)
	[[ $status != *logging_disabled* ]] || lb_fail "the log is full"
	# Entries, and the highest sector of the log in use.
	crash_log_mib=$((${status##* } / 2048 + 2))
	dmsetup remove crash-log
}

# crash_write [ARGUMENT...]: the workload.
crash_write() {
	"$crash_bin/crash-workload" --history "$crash_dir/history" --log-device crash-log --seed "$crash_seed" "$@"
}

# crash_replay POINTS [ARGUMENT...]
crash_replay() {
	local points=$1 keep=$LIVEBLK_RESULTS/crash-${crash_name:?} output
	shift
	mkdir -p "$keep"
	output=$crash_dir/output
	if ! "$crash_bin/crash-replay" --log "$crash_log" --base "$crash_dir/base" --history "$crash_dir/history" \
		--target "$crash_target" --seed "$crash_seed" --points "$points" --keep "$keep" "$@" |
		tee "$output"; then
		crash_keep "$keep"
		dmesg | tail -30
		lb_fail "scenario $crash_name, seed $crash_seed: see $keep"
	fi
	crash_tried=$((crash_tried + $(sed -n 's/^crash points: \([0-9]*\) tried.*/\1/p' "$output")))
}

# What is needed to replay it again, in a VM or not.
crash_keep() { # DIRECTORY
	mkdir -p "$1"
	cp --sparse=always "$crash_dir/base" "$crash_dir/history" "$1"
	dd if="$crash_log" of="$1/log" bs=1M count="$crash_log_mib" iflag=direct conv=sparse status=none
	echo "$crash_seed" >"$1/seed"
}

# crash_scenario NAME POINTS SIZE CREATE-OPTIONS [WORKLOAD-ARGUMENT...]: random writes to an image on a block device.
crash_scenario() {
	local points=$2 size=$3 options=$4
	crash_name=$1
	shift 4
	lb_step "$crash_name: $size ${options:-defaults} $*"
	crash_poison 0
	qemu-img create -q -f qcow2 ${options:+-o "$options"} "$crash_disk" "$size"
	crash_image "$points" "$@"
}

# crash_image POINTS [WORKLOAD-ARGUMENT...]: the same with the image that is on the disk. The points here are attached
# through the module too; many more are replayed on the host, where that is faster: tests/crash/replay-on-host.
crash_image() {
	local points=$1 cluster
	shift
	cluster=$(qemu-img info --output=json -f qcow2 "$crash_disk" | jq '."cluster-size"')
	crash_log_start
	lb_attach crash-dev /dev/mapper/crash-log
	crash_write block /dev/mapper/crash-dev --cluster-size "$cluster" "$@"
	lb_detach crash-dev
	crash_log_stop
	crash_keep "$LIVEBLK_RESULTS/replay/$crash_seed-$crash_name"
	crash_replay "$points" --attach crash-again
}

# crash_rounds FUNCTION: what a test consists of.
crash_rounds() {
	local round
	for ((round = 0; round < crash_times; round++)); do
		"$1"
		crash_seed=$((crash_seed + 1))
	done
}

crash_total() {
	echo "crash points: $crash_tried tried, 0 corrupt"
}
