#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: copies between conventional and sequential zones obey the write pointer, and what does not is refused
# needs: blkzone jq blkdiscard python3
# timeout: 200
# cpus: 1
# debug: yes
set -eu -o pipefail
# shellcheck source=tests/vm/copy/lib.sh
. tests/vm/copy/lib.sh

io_error='Input/output error'

# Bytes written to a sequential zone.
wp() { # ZONE
	local sectors
	sectors=$(blkzone report -o $(($1 * 8192)) -c 1 "$disk" | sed -n 's/.*wptr 0x\([0-9a-f]*\) .*/\1/p')
	echo $((16#$sectors * 512))
}
condition() { # ZONE
	blkzone report -o $(($1 * 8192)) -c 1 "$disk" | sed -n 's/.*zcond:[ 0-9]*(\([a-z]*\)).*/\1/p'
}
must_be_at() { [ "$(wp "$1")" = "$2" ] || lb_fail "the write pointer of zone $1 is $(wp "$1"), and not $2"; }
must_be() { [ "$(condition "$1")" = "$2" ] || lb_fail "zone $1 is $(condition "$1"), and not $2"; }
reset() { blkzone reset -o $(($1 * 8192)) -c "${2:-1}" "$disk"; }

# Zones of 4 MiB: 0 to 3 conventional, 4 to 15 sequential.
zone() { echo $(($1 * 4 * mib)); }

test_write_pointer() {
	lb_step "a copy appends"
	blk-copy "$disk" "$disk:$(zone 4)" 64k
	must_be_at 4 65536
	must_be 4 oi
	blk-copy "$disk:64k" "$disk:$(($(zone 4) + 65536))" 64k
	must_be_at 4 131072
	cp_same "$disk" 0 "$disk" "$(zone 4)" 131072
	# A write goes on where the copy ended.
	dd if=/dev/urandom of="$disk" bs=4k count=1 oflag=direct,seek_bytes seek=$(($(zone 4) + 131072)) conv=notrunc status=none
	must_be_at 4 135168
	# From a sequential zone to a conventional one and to another sequential one.
	blk-copy "$disk:$(zone 4)" "$disk:$(zone 2)" 132k
	cp_same "$disk" "$(zone 4)" "$disk" "$(zone 2)" 135168
	blk-copy "$disk:$(zone 4)" "$disk:$(zone 5)" 132k
	cp_same "$disk" "$(zone 4)" "$disk" "$(zone 5)" 135168
	must_be_at 5 135168
}

test_violations() {
	lb_step "what does not append is refused"
	local sum
	sum=$(cp_sum "$disk" "$(zone 4)" $((4 * mib)))
	must_fail "$io_error; 0 of" blk-copy "$disk" "$disk:$(zone 4)" 4k
	must_fail "$io_error; 0 of" blk-copy "$disk" "$disk:$(($(zone 4) + 139264))" 4k
	must_fail "$io_error; 0 of" blk-copy "$disk:$(zone 4)" "$disk:$(zone 2)" 136k
	must_be_at 4 135168
	[ "$(cp_sum "$disk" "$(zone 4)" $((4 * mib)))" = "$sum" ] || lb_fail "zone 4 has changed"
	# The same by reading and writing.
	must_fail "$io_error; 0 of" blk-copy --emulate=always "$disk" "$disk:$(zone 4)" 4k
	must_be_at 4 135168
	# Off the edge of zone 4, whose neighbour is not at its beginning: as far as it goes.
	must_fail "$io_error; $((4 * mib - 135168)) of" blk-copy "$disk" "$disk:$(($(zone 4) + 135168))" 4m
	must_be 4 fu
	must_be_at 5 135168
	must_fail "$io_error; 0 of" blk-copy "$disk" "$disk:$(zone 4)" 4k
}

cp_append() { # ZONE
	insmod "$LIVEBLK_BUILD/modules/$(uname -r)/tests/copy-test.ko" what=append device="$disk" sector=$(($1 * 8192)) || return
	rmmod copy-test
}

test_append() {
	lb_step "a zone append stays in its zone"
	reset 4 12
	cp_append 4
	must_be_at 4 4096
	cp_append 4
	must_be_at 4 8192
	blkzone finish -o $((4 * 8192)) -c 1 "$disk"
	must_fail "$io_error" cp_append 4
	must_be 5 em
	blkzone finish -o $((15 * 8192)) -c 1 "$disk"
	must_fail "$io_error" cp_append 15
	must_fail "$io_error" cp_append 3
	reset 4
}

test_zeroes() {
	lb_step "zeroes over the edge of the conventional zones"
	reset 4 12
	blkdiscard -z -o $(($(zone 4) - 65536)) -l 131072 "$disk"
	must_be_at 4 65536
	must_fail "$io_error" blkdiscard -z -o $(($(zone 4) - 65536)) -l 131072 "$disk"
	must_be_at 4 65536
	[ "$(cp_sum "$disk" $(($(zone 4) - 65536)) 131072)" = "$(head -c 131072 /dev/zero | sha256sum)" ] || lb_fail "not zeros"
	blkdiscard -z -o $((2 * mib)) -l $((8 * mib)) "$disk"
	cp_fill "$disk" 0 $((16 * mib))
}

# Whoever has a disk open that is gone may ask for its zones.
test_gone() {
	lb_step "zones of a disk that is gone"
	python3 - "$disk" <<-'E'
		import fcntl, os, subprocess, sys
		fd = os.open(sys.argv[1], os.O_RDONLY)
		report = bytearray(16 + 64)
		report[8] = 1
		fcntl.ioctl(fd, 0xC0101282, report)
		if report[8] != 1:
		    sys.exit("no zone is reported")
		subprocess.run(["blk-copy", "null", "remove", "zoned"], check=True)
		if subprocess.run(["rmmod", "null-copy"], stderr=subprocess.DEVNULL).returncode == 0:
		    sys.exit("null-copy is unloaded under an open disk")
		try:
		    fcntl.ioctl(fd, 0xC0101282, report)
		    if report[8]:
		        sys.exit("zones of a disk that is gone are reported")
		except OSError:
		    pass
	E
}

test_many_zones() {
	lb_step "over zones"
	reset 4 12
	must_be 4 em
	blk-copy "$disk:1m" "$disk:$(zone 4)" 10m
	must_be 4 fu
	must_be 5 fu
	must_be_at 6 $((2 * mib))
	cp_same "$disk" $mib "$disk" "$(zone 4)" $((10 * mib))
	blk-copy --emulate=always "$disk:1m" "$disk:$(zone 8)" 10m
	cp_same "$disk" $mib "$disk" "$(zone 8)" $((10 * mib))
	must_be_at 10 $((2 * mib))
}

test_limits() {
	lb_step "limits of open and active zones"
	local i
	reset 4 12
	# Three may be open and four active; opening one more closes one.
	for i in 4 5 6 7; do
		blk-copy "$disk" "$disk:$(zone $i)" 4k
	done
	must_be 4 cl
	must_fail "Value too large; 0 of|active zones|; 0 of" blk-copy "$disk" "$disk:$(zone 8)" 4k
	must_be 8 em
	reset 5
	blk-copy "$disk" "$disk:$(zone 8)" 4k
	for i in 6 7 8; do
		blkzone open -o $((i * 8192)) -c 1 "$disk"
	done
	must_be 8 oe
	must_fail "; 0 of" blk-copy "$disk:4k" "$disk:$(($(zone 4) + 4096))" 4k
	must_be 4 cl
	blkzone finish -o $((6 * 8192)) -c 1 "$disk"
	blk-copy "$disk:4k" "$disk:$(($(zone 4) + 4096))" 4k
	must_be_at 4 8192
}

test_faults() {
	lb_step "a fault moves the write pointer as far as bytes went"
	reset 4 12
	cp_fault zoned "copy 0 1048576 after 8192"
	must_fail "$io_error; 8192 of" blk-copy "$disk" "$disk:$(zone 4)" 64k
	must_be_at 4 8192
	cp_fault zoned clear
	blk-copy "$disk:8k" "$disk:$(($(zone 4) + 8192))" 56k
	cp_same "$disk" 0 "$disk" "$(zone 4)" 65536
}

cp_load null-copy
disk=$(cp_null zoned size=64 zoned=1 zone_size=4 zone_nr_conv=4 zone_max_open=3 zone_max_active=4)
[ "$(cat "/sys/block/${disk#/dev/}/queue/zoned")" = host-managed ] || lb_fail "it is not zoned"
cp_fill "$disk" 0 $((16 * mib))
test_write_pointer
test_violations
test_append
test_zeroes
test_many_zones
test_limits
test_faults
test_gone
cp_unload null-copy
