#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: QEMU's tools and dm-qcow2 keep off each other's images; suspend hands over and resume sees all
# needs: qemu-img qemu-io dmsetup sha256sum blockdev
# timeout: 900
# cpus: 1
# first: yes
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh

name=lock0
device=/dev/mapper/$name
mib=1048576
lock_message='Failed to get (shared )?"[a-z ]+" lock'

# dmsetup must refuse; what it leaves of the device is removed.
create_refused() { # NAME TABLE
	local status=0
	dmsetup create "$1" --table "$2" 2>/run/liveblk-err || status=$?
	if dmsetup info "$1" >/dev/null 2>&1; then
		dmsetup remove "$1"
	fi
	[ "$status" != 0 ] || lb_fail "not refused: table $2"
}

write_at() { # BYTE OFFSET LENGTH, through the device
	qemu-io -f raw -t none -c "write -q -P $1 $2 $3" -c flush "$device" >/dev/null
}

holds() { must_hold raw "$device" "$@"; } # BYTE OFFSET LENGTH
image_holds() { must_hold qcow2 "$@"; }    # IMAGE BYTE OFFSET LENGTH

test_refused_while_live() { # IMAGE
	lb_step "while live, QEMU's tools are refused"
	must_fail "$lock_message" qemu-img snapshot -c while-live "$1"
	must_fail "$lock_message" qemu-img snapshot -l "$1"
	must_fail "$lock_message" qemu-img resize -f qcow2 "$1" +1M
	must_fail "$lock_message" qemu-io -f qcow2 -c "write 0 512" "$1"
	must_fail "$lock_message" qemu-io -r -f qcow2 -c "read 0 512" "$1"
	must_fail "$lock_message" qemu-img check "$1"
	must_fail "$lock_message" qemu-img check -r leaks "$1"
	must_fail "$lock_message" qemu-img info "$1"
	qemu-img info -U "$1" >/dev/null || lb_fail "qemu-img info -U is refused while live"

	lb_step "while live, a second device is refused"
	mark_log
	create_refused lock1 "0 $(lb_sectors "$1") qcow2 $1"
	must_be_logged "qcow2.*$1.*lock"
	mark_log
	create_refused lock1 "0 $(lb_sectors "$1") qcow2 $1 1 read_only"
	must_be_logged "qcow2.*$1.*lock"
	holds 17 0 65536
	write_at 18 65536 4096
	holds 18 65536 4096
}

# A VM that runs must keep us out just the same.
test_qemu_keeps_us_out() { # IMAGE
	lb_step "while QEMU has the image, the device is refused"
	local pid
	mkfifo /run/liveblk-hold
	# qemu-io holds the image until its input ends.
	stdbuf -oL qemu-io -f qcow2 "$1" </run/liveblk-hold >/run/liveblk-held &
	pid=$!
	exec 8>/run/liveblk-hold
	echo "read 0 512" >&8
	# Not by trying to open the image, which would keep qemu-io out.
	for _ in {1..300}; do
		! grep -q "read 512/512" /run/liveblk-held || break
		sleep 0.1
	done
	must_fail "$lock_message" qemu-img info "$1"
	mark_log
	create_refused "$name" "0 $(lb_sectors "$1") qcow2 $1"
	must_be_logged "qcow2.*$1.*lock"
	exec 8>&-
	wait "$pid"
	rm /run/liveblk-hold
}

test_works_while_suspended() { # IMAGE
	lb_step "while suspended, QEMU's tools work, and resume sees what they did"
	write_at 33 0 131072
	dmsetup suspend "$name"
	lb_check "$1"
	qemu-img snapshot -c kept "$1"
	qemu-io -f qcow2 -c "write -q -P 34 65536 65536" -c "write -q -P 35 $((8 * mib)) 1M" "$1" >/dev/null
	lb_check "$1"
	dmsetup resume "$name"
	holds 33 0 65536
	holds 34 65536 65536
	holds 35 $((8 * mib)) $mib
	must_fail "$lock_message" qemu-img info "$1"

	lb_step "the snapshot keeps its content while the device is written"
	write_at 36 0 131072
	write_at 37 $((8 * mib + 4096)) 4096
	holds 36 0 131072
	lb_detach "$name"
	lb_check "$1"
	image_holds "$1" 36 0 131072
	image_holds "$1" 35 $((8 * mib)) 4096
	image_holds "$1" 37 $((8 * mib + 4096)) 4096
	qemu-img convert -f qcow2 -O raw -l snapshot.name=kept "$1" "$dir/kept.raw"
	must_hold raw "$dir/kept.raw" 33 0 131072
	must_hold raw "$dir/kept.raw" 0 $((8 * mib)) $mib
	rm "$dir/kept.raw"
}

test_read_only() { # IMAGE
	lb_step "read-only devices share the image and never write"
	local before sectors
	before=$(sha256sum <"$1")
	sectors=$(lb_sectors "$1")
	lb_attach lock1 "$1" read_only
	lb_attach lock2 "$1" read_only
	cmp -n $((8 * mib)) /dev/mapper/lock1 /dev/mapper/lock2
	must_fail "." dd if=/dev/zero of=/dev/mapper/lock1 bs=4096 count=1 conv=notrunc oflag=direct
	must_fail "." blkdiscard -f /dev/mapper/lock2
	must_fail "$lock_message" qemu-io -f qcow2 -c "write 0 512" "$1"
	must_fail "$lock_message" qemu-img snapshot -c no "$1"
	qemu-img check -q "$1" || lb_fail "a reader is refused beside read-only devices"
	mark_log
	create_refused "$name" "0 $sectors qcow2 $1"
	must_be_logged "qcow2.*$1.*lock"
	dmsetup suspend lock1
	dmsetup resume lock1
	lb_detach lock1
	lb_detach lock2
	dmsetup create --readonly lock1 --table "0 $sectors qcow2 $1"
	[ "$(blockdev --getro /dev/mapper/lock1)" = 1 ] || lb_fail "a device of dmsetup create --readonly is not read-only"
	[[ $(dmsetup table lock1) == *read_only* ]] || lb_fail "the table of a read-only device does not say so"
	qemu-img check -q "$1" || lb_fail "a reader is refused beside a device made --readonly"
	lb_detach lock1
	[ "$before" = "$(sha256sum <"$1")" ] || lb_fail "read-only devices have changed the image"
}

test_no_lock() { # IMAGE
	lb_step "no_lock takes no lock"
	lb_attach "$name" "$1" no_lock
	qemu-img info "$1" >/dev/null || lb_fail "no_lock has taken a lock"
	write_at 40 0 4096
	lb_detach "$name"
	lb_check "$1"
	image_holds "$1" 40 0 4096
}

test_resize() { # IMAGE
	lb_step "a size changed while suspended is refused, and a new table takes it"
	local old new
	lb_attach "$name" "$1"
	old=$(lb_sectors "$1")
	write_at 41 0 65536
	dmsetup suspend "$name"
	qemu-img resize -q -f qcow2 "$1" +1M
	new=$(lb_sectors "$1")
	mark_log
	if dmsetup resume "$name" 2>/dev/null; then
		lb_fail "resumed with a table of the wrong length"
	fi
	must_be_logged "qcow2.*($old.*$new|$new.*$old)"
	dmsetup reload "$name" --table "0 $new qcow2 $1"
	dmsetup resume "$name"
	[ "$(blockdev --getsz "$device")" = "$new" ] || lb_fail "the device has not its new size"
	holds 41 0 65536
	write_at 42 $((old * 512)) $mib
	holds 42 $((old * 512)) $mib
	mark_log
	create_refused lock1 "0 $old qcow2 $1"
	must_be_logged "qcow2.*($old.*$new|$new.*$old)"
}

test_reload() { # IMAGE
	lb_step "a live device takes a new table, its own line included"
	local line
	write_at 43 4096 4096
	dmsetup reload "$name" --table "0 $(lb_sectors "$1") qcow2 $1 2 cache_kib 256"
	holds 43 4096 4096
	write_at 44 8192 4096
	dmsetup resume "$name"
	holds 43 4096 4096
	holds 44 8192 4096
	line=$(dmsetup table "$name")
	[[ $line == *"cache_kib 256"* ]] || lb_fail "the table does not show cache_kib: $line"
	dmsetup reload "$name" --table "$line"
	dmsetup resume "$name"
	[ "$(dmsetup table "$name")" = "$line" ] || lb_fail "the table has changed: $(dmsetup table "$name")"
	# A table that is loaded and never used must leave nothing behind.
	dmsetup reload "$name" --table "$line"
	dmsetup clear "$name"
	holds 44 8192 4096
	must_fail "$lock_message" qemu-img info "$1"
	lb_detach "$name"
	lb_check "$1"
	dmsetup create "$name" --table "$line"
	holds 44 8192 4096
	lb_detach "$name"
}

test_read_only_to_writable() { # IMAGE
	lb_step "a reload turns read-only into writable and back"
	local sectors
	sectors=$(lb_sectors "$1")
	lb_attach "$name" "$1"
	dmsetup reload "$name" --table "0 $sectors qcow2 $1 1 read_only"
	dmsetup resume "$name"
	[[ $(dmsetup table "$name") == *read_only* ]] || lb_fail "the table is not read-only"
	qemu-img check -q "$1" || lb_fail "a reader is refused beside a read-only device"
	dmsetup reload "$name" --table "0 $sectors qcow2 $1"
	dmsetup resume "$name"
	write_at 45 0 4096
	lb_detach "$name"
	lb_check "$1"
	image_holds "$1" 45 0 4096
}

# dmsetup doubles backslashes, so it cannot escape a blank; the kernel's interface can.
test_path_with_blanks() {
	lb_step "a path with blanks and a backslash"
	local image="$dir/a b\\c.qcow2" line escaped
	escaped=$dir/'a\ b\\c.qcow2'
	lb_image "$image" 8M
	dmsetup create "$name" --notable
	dm-raw-load "$name" 16384 qcow2 "$escaped"
	dmsetup resume "$name"
	dmsetup mknodes "$name"
	write_at 50 0 4096
	line=$(dmsetup table "$name")
	[ "$line" = "0 16384 qcow2 $escaped" ] || lb_fail "the table shows '$line'"
	dm-raw-load "$name" 16384 qcow2 "${line#0 16384 qcow2 }"
	dmsetup resume "$name"
	holds 50 0 4096
	lb_detach "$name"
	lb_check "$image"
	rm "$image"
}

test_descriptor() { # IMAGE
	lb_step "an open descriptor as image"
	local line sectors
	sectors=$(lb_sectors "$1")
	exec 9<>"$1"
	dmsetup create "$name" --table "0 $sectors qcow2 fd:9"
	exec 9>&-
	write_at 51 0 4096
	must_fail "$lock_message" qemu-img info "$1"
	dmsetup suspend "$name"
	qemu-img info "$1" >/dev/null || lb_fail "the lock is held while suspended"
	dmsetup resume "$name"
	holds 51 0 4096
	line=$(dmsetup table "$name")
	dmsetup reload "$name" --table "$line" || lb_fail "the table cannot be loaded again: $line"
	dmsetup resume "$name"
	holds 51 0 4096
	lb_detach "$name"
	lb_check "$1"
	lb_step "descriptors that are none, or not open for writing, are refused"
	exec 9<"$1"
	create_refused "$name" "0 $sectors qcow2 fd:9"
	exec 9>&-
	create_refused "$name" "0 $sectors qcow2 fd:9"
	create_refused "$name" "0 $sectors qcow2 fd:x"
}

test_all() { # IMAGE OPTION...
	local image=$1
	shift
	lb_image "$image" 16M "$@"
	test_qemu_keeps_us_out "$image"
	lb_attach "$name" "$image"
	write_at 17 0 65536
	test_refused_while_live "$image"
	test_works_while_suspended "$image"
	test_read_only "$image"
	test_no_lock "$image"
	test_resize "$image"
	test_reload "$image"
	test_read_only_to_writable "$image"
	test_descriptor "$image"
	lb_check "$image"
}

export PATH=$LIVEBLK_BUILD/bin:$PATH
lb_load
dir=$(lb_scratch 400 xfs)
lb_step "image in a file"
test_all "$dir/disk.qcow2"
test_path_with_blanks
lb_step "image on a block device"
ram=$(lb_ramdisk 64)
test_all "$ram" -o lazy_refcounts=on
lb_unload
