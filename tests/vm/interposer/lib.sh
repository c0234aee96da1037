# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What the tests of blk-interposer share.
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh

bi_mnt=/run/interposed
: "${lb_state:?source tests/vm/lib.sh first}"
mkdir -p "$bi_mnt"
export PATH=$LIVEBLK_BUILD/bin:$PATH

# How long: short unless LIVEBLK_FULL=1, shorter where a leak detector slows everything down.
bi_count() { # SHORT FULL
	if [ "${LIVEBLK_FULL:-0}" = 1 ]; then
		echo "$2"
	elif [ -e /sys/kernel/debug/kmemleak ]; then
		echo $((($1 + 3) / 4))
	else
		echo "$1"
	fi
}

bi_mkfs() { # TYPE DEVICE
	modprobe "$1" || lb_fail "$1 cannot be loaded"
	case $1 in
	ext4) mkfs.ext4 -q -F "$2" ;;
	xfs) mkfs.xfs -q -f "$2" ;;
	btrfs) mkfs.btrfs -q -f "$2" ;;
	esac >&2 || lb_fail "mkfs.$1 on $2"
}

bi_fsck() { # TYPE DEVICE
	local log=$lb_state/fsck
	case $1 in
	ext4) e2fsck -fn "$2" ;;
	xfs) xfs_repair -n "$2" ;;
	btrfs) btrfs check "$2" ;;
	esac >"$log" 2>&1 || {
		tail -n 30 "$log"
		lb_fail "the $1 on $2 is not clean"
	}
}

# Two partitions that do not begin with the disk.
bi_partition() { # DISK
	printf 'label: dos\nstart=2048, size=%s\ntype=83\n' "$(($(blockdev --getsz "$1") - 65536))" |
		sfdisk -q --no-reread "$1" >&2 || lb_fail "cannot partition $1"
	blockdev --rereadpt "$1" || lb_fail "cannot read the partitions of $1"
}

# Without udev nothing in /dev/mapper says which disk it is.
bi_disk() { lsblk -dno KNAME "$1"; }

# Of all kernels that are tested, only those with kmemleak are built without some drivers.
bi_lacks() { # WHAT
	[ -e /sys/kernel/debug/kmemleak ] || lb_fail "this kernel has no $1"
	lb_part_skipped "no $1 in this kernel"
}

bi_has_driver() { # MODULE
	modprobe -q "$1" || { bi_lacks "driver $1"; return 1; }
}

# Sectors written to a device, and I/O in flight.
bi_written() { awk '{ print $7 }' "/sys/block/$(bi_disk "$1")/stat"; }
bi_inflight() { awk '{ print $1 + $2 }' "/sys/block/$(bi_disk "$1")/inflight"; }

bi_sectors() { blockdev --getsz "$1"; }

# Writes files, reads them back past the page cache, and stops at the first wrong byte or error.
bi_writer() { # DIRECTORY STOPFILE
	local n=0 sum file made=$lb_state/made
	while [ ! -e "$2" ]; do
		[ -z "${LIVEBLK_RATE:-}" ] || sleep 0.1
		file=$1/w$((n % 4))
		dd if=/dev/urandom of="$made" bs=64k count=$((n % 5 + 1)) status=none
		sum=$(sha256sum <"$made")
		if ! cp "$made" "$file" || ! sync "$file"; then
			echo "cannot write $file" >>"$2.failed"
			return 1
		fi
		dd if="$file" iflag=nocache count=0 status=none
		[ "$(sha256sum <"$file")" = "$sum" ] || { echo "$file does not hold what was written" >>"$2.failed"; return 1; }
		n=$((n + 1))
	done
	echo "$n" >>"$2.count"
}

# Reads of all disks. fio begins to read when it has made its files, which takes long where all is slow.
bi_reads() { awk '{ n += $4 } END { print n }' /proc/diskstats; }
bi_await_fio() { # PID READS-BEFORE
	while [ "$(bi_reads)" -lt $(($2 + 100)) ]; do
		kill -0 "$1" 2>/dev/null || lb_fail "fio has stopped: $(tail -n 20 "$lb_state/fio")"
		sleep 0.2
	done
}

# fio with verification and a file writer, until bi_stop_load: as fast as they can, or fio with LIVEBLK_RATE requests a
# second at random moments, which leaves more of an emulated CPU to what is tested.
bi_start_load() { # DIRECTORY
	local before rate=()
	[ -z "${LIVEBLK_RATE:-}" ] || rate=("--rate_iops=$LIVEBLK_RATE" --rate_process=poisson)
	bi_stop=$lb_state/stop
	rm -f "$bi_stop" "$bi_stop.failed" "$bi_stop.count"
	bi_writer "$1" "$bi_stop" &
	bi_writer_pid=$!
	before=$(bi_reads)
	fio --name=load --directory="$1" --size=8m --rw=randrw --bs=4k --ioengine=io_uring --iodepth=8 --direct=1 \
		--verify=crc32c --verify_fatal=1 --time_based --runtime=36000 --output="$lb_state/fio" \
		${rate[@]+"${rate[@]}"} &
	bi_fio_pid=$!
	bi_await_fio "$bi_fio_pid" "$before"
}

# fio that was interrupted ends with 128, whether or not it had found something.
bi_end_fio() { # PID
	local status=0
	kill -INT "$1" 2>/dev/null || lb_fail "fio has stopped: $(tail -n 20 "$lb_state/fio")"
	wait "$1" || status=$?
	{ [ "$status" = 0 ] || [ "$status" = 128 ]; } && grep -q 'err= 0' "$lb_state/fio" &&
		! grep -qE 'err=[ ]*[1-9]|verify:' "$lb_state/fio" && return
	tail -n 20 "$lb_state/fio"
	lb_fail "fio has found a wrong byte, or an error (status $status)"
}

bi_load_runs() {
	kill -0 "$bi_writer_pid" 2>/dev/null || lb_fail "the writer has stopped: $(cat "$bi_stop.failed" 2>/dev/null)"
	kill -0 "$bi_fio_pid" 2>/dev/null || {
		tail -n 20 "$lb_state/fio"
		lb_fail "fio has stopped"
	}
}

bi_stop_load() {
	bi_load_runs
	: >"$bi_stop"
	bi_end_fio "$bi_fio_pid"
	wait "$bi_writer_pid" || lb_fail "the writer has failed: $(cat "$bi_stop.failed")"
	[ ! -e "$bi_stop.failed" ] || lb_fail "$(cat "$bi_stop.failed")"
}

bi_none_left() {
	[ "$(blk-interpose list --json)" = "[]" ] || lb_fail "a pair is left: $(blk-interpose list)"
	! grep -q 'blki_hook' /sys/kernel/tracing/enabled_functions 2>/dev/null || lb_fail "the hook is still registered"
}

# Everything is moved up by an odd number of blocks, the end to the beginning: whoever goes this way twice is seen.
bi_moved=$((4096 + 24))
bi_rotate() { # NAME DEVICE
	local size lower
	size=$(bi_sectors "$2")
	blk-interpose create "$1" --table "0 $size linear [interpose]$2 0"
	lower=$(blk-interpose list --json | jq -r '.[0].lower')
	printf '%s\n' "0 $((size - bi_moved)) linear $lower $bi_moved" "$((size - bi_moved)) $bi_moved linear $lower 0" |
		dmsetup reload "$1"
	dmsetup suspend "$1"
	dmsetup resume "$1"
}
