#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: instruction time: the module loaded, something attached elsewhere, dm-linear interposed and stacked
# needs: dmsetup fio jq
# timeout: 900
# mem: 3G
# icount: yes
# boot: own
set -eu -o pipefail
# shellcheck source=tests/vm/interposer/lib.sh
. tests/vm/interposer/lib.sh

mib=32
reads=40000
# Instructions of a read, in instruction time: one a nanosecond. fio counts in milliseconds, which are 0.3 % here.
cost() { # DEVICE
	fio --output-format=json --name=cost --filename="$1" --ioengine=io_uring --direct=1 --rw=randread --bs=4k \
		--iodepth=32 --size="${mib}M" --io_size="$((reads * 4))k" --norandommap --randseed=1 |
		jq --argjson n "$reads" '.jobs[0] | if .error != 0 or .read.total_ios != $n then error("fio") else
			1e6 * .read.runtime / $n | round end'
}

say() { echo "$1: $2 instructions"; }

at_most() { # WHAT COST BASE PERCENT
	awk -v c="$2" -v b="$3" -v what="$1" -v limit="$4" \
		'BEGIN { p = 100 * (c / b - 1); printf "%s: %+.2f %% (at most %s)\n", what, p, limit; exit !(p <= limit) }' ||
		lb_fail "$1 costs too much"
}

modprobe brd
modprobe dm-mod
for n in 0 1; do dd if=/dev/zero of=/dev/ram$n bs=1M count=$mib oflag=direct status=none; done

plain=$(cost /dev/ram1)
say "a read, module not loaded" "$plain"
dmsetup create stacked --table "0 $(bi_sectors /dev/ram0) linear /dev/ram0 0"
stacked=$(cost /dev/mapper/stacked)
say "a read through dm-linear" "$stacked"
dmsetup remove stacked

lb_load_interposer
loaded=$(cost /dev/ram1)
say "a read, nothing attached" "$loaded"
blk-interpose create cost0 --table "0 $(bi_sectors /dev/ram0) linear [interpose]/dev/ram0 0"
elsewhere=$(cost /dev/ram1)
say "a read, attached to another disk" "$elsewhere"
interposed=$(cost /dev/ram0)
say "a read through dm-linear interposed" "$interposed"
blk-interpose remove cost0
lb_unload_interposer

# Half a percent is what two runs of the same differ by.
at_most "nothing attached" "$loaded" "$plain" 0.5
at_most "attached elsewhere" "$elsewhere" "$plain" 5
# 0.8 of the rate is 1.25 times the instructions.
at_most "dm-linear interposed, over stacked" "$interposed" "$stacked" 25
