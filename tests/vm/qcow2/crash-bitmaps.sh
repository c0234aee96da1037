#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: after a power loss at any moment, also of a suspend or resume, no bitmap that is called good misses a change
# needs: qemu-img dmsetup jq blockdev
# after: tests/crash/replay-on-host
# timeout: 600
# mem: 3G
set -eu -o pipefail
. tests/vm/lib.sh
. tests/crash/scenario.sh

# Whether they are good is decided where the image changes hands.
crash_on_host="--bitmaps 3 --all --between 60
--bitmaps 3 --turns 12"

# Only while the device is suspended can a bitmap be good: each snapshot is taken in such a time. Before the first one
# writes find clusters that they need not copy, so that nothing but the mark of a bitmap comes before them.
bitmaps_scenario() { # NAME SIZE CREATE-OPTIONS
	crash_wanted "$1" || return 0
	crash_name=$1
	lb_step "$crash_name: bitmaps of an image of $2 ${3:-}"
	crash_poison 0
	qemu-img create -q -f qcow2 ${3:+-o "$3"} "$crash_disk" "$2"
	qemu-img bitmap --add -g 512 "$crash_disk" fine
	qemu-img bitmap --add "$crash_disk" usual
	qemu-img bitmap --add -g 1M "$crash_disk" coarse
	crash_record_image --ops 200 --pauses 2 --snapshots 2 --dm-name crash-dev --image "$crash_store"
}

run_all() {
	bitmaps_scenario bitmaps-64k 8M ''
	bitmaps_scenario bitmaps-4k-lazy 8M cluster_size=4K,lazy_refcounts=on
}

lb_load
crash_disks 32
crash_rounds run_all
lb_unload
crash_total
