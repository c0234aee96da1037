# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What the crash tests share; sourced after tests/vm/lib.sh.

crash_bin=$LIVEBLK_BUILD/bin
crash_dir=/run/crash
crash_seed=${LIVEBLK_SEED:-$((RANDOM * 32768 + RANDOM))}
crash_tried=0
crash_recorded=0
# The disk that the workload or the image is on.
crash_store=/dev/mapper/crash-store
# Some flushes below the log take a random time, up to so many milliseconds, and some writes with them; above it there is
# one flush at a time, or the same happens there.
crash_flush_late=0
crash_write_late=0
crash_flush_in_turn=1
# Names of scenarios; without one all there are.
crash_only=${LIVEBLK_CRASH_ONLY:-}
# Arguments of crash-replay for the replay on the host; each line is one.
crash_on_host=''
# A full campaign does everything so often, each time with another seed.
crash_times=1
[ "${LIVEBLK_FULL:-0}" != 1 ] || crash_times=${LIVEBLK_CRASH_TIMES:-2}
# In a VM that emulates its CPU, the byte-wise string instructions are slow out of proportion.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.cpu.hwcaps=-ERMS,-FSRM}

# crash_disks MIB: the disk that crashes, its log, and the disk it is rebuilt on.
crash_disks() {
	mkdir -p "$crash_dir"
	modprobe dm-log-writes || lb_fail "dm-log-writes cannot be loaded"
	[ -e /sys/module/dm_flush_order ] || lb_insmod tests/dm-flush-order
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
	local sectors below=$crash_disk order
	sectors=$(blockdev --getsz "$crash_disk")
	if [ "$crash_flush_late" -gt 0 ]; then
		dmsetup create crash-late --table "0 $sectors flush-order $crash_disk late $crash_flush_late $crash_write_late"
		below=/dev/mapper/crash-late
	fi
	dmsetup create crash-log --table "0 $sectors log-writes $below $crash_log"
	order=in_turn
	[ "$crash_flush_in_turn" = 1 ] || order="late $crash_flush_late"
	dmsetup create crash-store --table "0 $sectors flush-order /dev/mapper/crash-log $order"
}

crash_log_stop() {
	local status
	dmsetup remove crash-store
	status=$(dmsetup status crash-log)
	[[ $status != *logging_disabled* ]] || lb_fail "the log is full"
	# Entries, and the highest sector of the log in use.
	crash_log_mib=$((${status##* } / 2048 + 2))
	dmsetup remove crash-log
	[ "$crash_flush_late" = 0 ] || dmsetup remove crash-late
}

# crash_write [ARGUMENT...]: the workload.
crash_write() {
	"$crash_bin/crash-workload" --history "$crash_dir/history" --log-device crash-log --seed "$crash_seed" "$@"
}

# crash_write_fua DEVICE [ARGUMENT...]: nothing is durable but what was written with FUA, which programs send with a flush
# behind it: that does not arrive.
crash_write_fua() {
	local device=$1
	shift
	dmsetup create crash-top --table "0 $(blockdev --getsz "$device") flush-order $device none"
	crash_write block /dev/mapper/crash-top --only-fua --fua-percent 60 "$@"
	dmsetup remove crash-top
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
	echo "$crash_on_host" >"$1/arguments"
}

crash_wanted() { [ -z "$crash_only" ] || [[ " $crash_only " == *" $1 "* ]]; } # NAME

# crash_scenario NAME POINTS SIZE CREATE-OPTIONS [WORKLOAD-ARGUMENT...]: random writes to an image on a block device.
crash_scenario() {
	local name=$1 points=$2
	shift 2
	crash_wanted "$name" || return 0
	crash_record "$name" "$@"
	crash_replay "$points" --attach crash-again
}

crash_record() { # NAME SIZE CREATE-OPTIONS [WORKLOAD-ARGUMENT...]
	local size=$2 options=$3
	crash_name=$1
	shift 3
	lb_step "$crash_name: $size ${options:-defaults} $*"
	crash_poison 0
	qemu-img create -q -f qcow2 ${options:+-o "$options"} "$crash_disk" "$size"
	crash_record_image "$@"
}

# crash_image POINTS [WORKLOAD-ARGUMENT...]: the same with the image that is on the disk. The points here are attached
# through the module too; many more are replayed on the host, where that is faster: tests/crash/replay-on-host.
crash_image() {
	local points=$1
	shift
	crash_record_image "$@"
	crash_replay "$points" --attach crash-again
}

crash_record_image() { # [WORKLOAD-ARGUMENT...]
	local cluster
	cluster=$(qemu-img info --output=json -f qcow2 "$crash_disk" | jq '."cluster-size"')
	crash_log_start
	lb_attach crash-dev "$crash_store"
	crash_write block /dev/mapper/crash-dev --cluster-size "$cluster" "$@"
	lb_detach crash-dev
	crash_log_stop
	crash_keep "$LIVEBLK_RESULTS/replay/$crash_seed-$crash_name"
	crash_recorded=$((crash_recorded + 1))
}

# crash_rounds FUNCTION: what a test consists of.
crash_rounds() {
	local round
	for ((round = 0; round < crash_times; round++)); do
		"$1"
		crash_seed=$((crash_seed + 1))
	done
}

# crash_total: the last thing; the disks are gone.
crash_total() {
	rmmod dm-flush-order || lb_fail "dm-flush-order cannot be unloaded"
	[ $((crash_tried + crash_recorded)) -gt 0 ] || lb_fail "no scenario is called '$crash_only' here"
	echo "crash points: $crash_tried tried, 0 corrupt"
}
