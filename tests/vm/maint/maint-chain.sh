#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: qcow2-maint and images with backing files: attached by their names, maintained while in use, or refused by name
# needs: qemu-img qemu-io dmsetup jq blockdev setsid
# timeout: 600
# mem: 2G
# cpus: 1
set -eu -o pipefail
# shellcheck source=tests/vm/lib.sh
. tests/vm/lib.sh
# shellcheck source=tests/vm/maint/lib.sh
. tests/vm/maint/lib.sh

mib=1048576 layers=40
[ "${LIVEBLK_FULL:-0}" != 1 ] || layers=300
model=/run/liveblk-model

overlay() { # FILE SIZE FORMAT BACKING [CLUSTER]
	must qemu-img create -q -f qcow2 -o "cluster_size=${5:-65536}" -F "$3" -b "$4" "$1" "$2"
}

json_name() { printf 'json:{"driver": "qcow2", "file": {"driver": "file", "filename": "%s"}}' "$1"; }

# A raw base that ends inside a block, a middle that names it relatively, a top that names the middle in JSON.
make_chain() {
	dir=$(lb_scratch 300 ext4)
	below="$dir/my images"
	mkdir "$below"
	raw="$below/raw disk" middle="$below/middle" image="$dir/top disk.qcow2"
	head -c $((5 * mib + 1536)) /dev/urandom >"$raw"
	overlay "$middle" 6M raw "raw disk" 4096
	must qemu-io -f qcow2 -c "write -P 1 1M 100k" -c "write -z 2M 64k" "$middle"
	overlay "$image" 8M qcow2 "$(json_name "$middle")"
	must qemu-io -f qcow2 -c "write -P 2 1050k 30k" -c "write -P 3 7M 10k" "$image"
	must qemu-img convert -O raw "$image" "$model"
}

same() { cmp "$device" "$model" || lb_fail "the device is not what QEMU reads: $*"; } # WHAT

# The same random bytes to the device and to what it should read as.
write_both() { # OFFSET BYTES, in KiB
	dd if=/dev/urandom of=/run/liveblk-chunk bs=1k count="$2" status=none
	dd if=/run/liveblk-chunk of="$device" bs=1k seek="$1" conv=notrunc oflag=direct status=none
	dd if=/run/liveblk-chunk of="$model" bs=1k seek="$1" conv=notrunc status=none
}

must_have_chain() { # WHAT
	[ "$(dmsetup table "$name" | sed 's/^.* backing qcow2/qcow2/')" = "qcow2 ${middle// /\\ } backing raw ${raw// /\\ }" ] ||
		lb_fail "not its table: $(dmsetup table "$name"), $1"
}

detached_as_model() {
	must "$maint" detach "$name"
	lb_check "$image"
	must qemu-img compare -q -f qcow2 -F raw "$image" "$model"
}

test_attach() {
	lb_step "attach by a relative name and one in JSON, with blanks"
	"$maint" attach "$image" "$name" >/run/liveblk-out || lb_fail "attach"
	diff /run/liveblk-out - <<-E || lb_fail "not the chain"
		qcow2  $image
		qcow2  $middle
		raw    $raw
		$device
	E
	must_have_chain "attached"
	same "attached"
	write_both 1030 70
	write_both 5110 40
	same "written"
	must_fail "in use by the live device $name, as a backing file" "$maint" snapshot create "$middle" x
	must_fail "lock" qemu-io -f raw -c "write 0 512" "$raw"
}

# Names, formats and sizes as qemu-img has them.
same_facts() { # TARGET
	local facts='map({name: ."filename" | sub("^.*/"; ""), format, size: ."virtual-size"})'
	[ "$("$maint" info --backing-chain --json "$1" | jq -c "$facts")" = \
		"$(qemu-img info -U --backing-chain --output=json "$image" | jq -c "$facts")" ] ||
		lb_fail "other facts than those of qemu-img: $("$maint" info --backing-chain --json "$1")"
	[ "$("$maint" info --backing-chain "$1" | grep '^image:' | sed 's/^image: *//')" = "$image
$middle
$raw" ] || lb_fail "not the chain: $("$maint" info --backing-chain "$1")"
}

test_live() {
	lb_step "snapshots, growth and a check while it is in use"
	cp "$model" "$model.one"
	must "$maint" snapshot create "$name" one
	must "$maint" snapshot create "$name" two
	write_both 100 300
	write_both 2000 200
	same "after two snapshots"
	must "$maint" resize "$name" +3M
	must_have_chain "resized"
	truncate -s $((11 * mib)) "$model"
	same "resized"
	write_both 8100 200
	must "$maint" snapshot delete "$name" two
	must "$maint" check "$name"
	must "$maint" resize --shrink "$name" 10M
	truncate -s $((10 * mib)) "$model"
	must_have_chain "smaller"
	same "smaller"
	same_facts "$name"
	[ "$(dmsetup status "$name" | cut -d' ' -f 9)" = 0 ] || lb_fail "I/O has failed: $(dmsetup status "$name")"
	detached_as_model
	same_facts "$image"
}

test_revert() {
	lb_step "a revert, and the chain read-only"
	cp "$image" "$image.kept"
	must "$maint" snapshot revert "$image" one
	must qemu-img compare -q -f qcow2 -F raw "$image" "$model.one"
	must "$maint" attach "$image" "$name" --read-only
	[ "$(blockdev --getro "$device")" = 1 ] || lb_fail "read-only, and writable"
	cmp "$device" "$model.one" || lb_fail "the snapshot is not what the disk was"
	must "$maint" check "$name"
	must "$maint" detach "$name"
	lb_check "$image"
	mv "$image.kept" "$image"
}

# With its guardian, before the new table is there: resume loads it.
test_killed() {
	lb_step "a resize that is killed"
	local load size status=0
	cp "$image" "$image.kept"
	must "$maint" attach "$image" "$name"
	changes_of /run/liveblk-log resize "$name" +1M
	load=$(first_of /run/liveblk-log dm-load)
	must "$maint" detach "$name"
	mv "$image.kept" "$image"
	must "$maint" attach "$image" "$name"
	env LD_PRELOAD="$shim" LIVEBLK_STOP_AT="$load" LIVEBLK_STOP_GROUP=1 setsid "$maint" resize "$name" +1M \
		>/run/liveblk-out 2>&1 || status=$?
	[ "$status" -eq 137 ] || lb_fail "ended with $status instead of being killed"
	is_suspended || lb_fail "not suspended"
	must "$maint" resume "$name"
	must_have_chain "resumed"
	size=$(blockdev --getsize64 "$device")
	[ "$size" = $((11 * mib)) ] || lb_fail "$size bytes"
	truncate -s "$size" "$model"
	same "resumed"
	detached_as_model
}

test_replaced() {
	lb_step "another file in the place of one below"
	must "$maint" attach "$image" "$name"
	mv "$middle" "$middle.moved"
	cp "$middle.moved" "$middle"
	must_fail "'$middle' is not the file that the device has open" "$maint" snapshot create "$name" x
	mv "$middle.moved" "$middle"
	must "$maint" snapshot create "$name" x
	same "moved back"
	must "$maint" snapshot delete "$name" x
	detached_as_model
}

# The last parameter of the overlay is what is wrong with it.
refused() { # PATTERN
	must_fail "$1" "$maint" attach "$dir/bad" "$name"
	! dmsetup info "$name" >/dev/null 2>&1 || lb_fail "attached all the same"
}

renamed() { must qemu-img rebase -u -f qcow2 -F "$1" -b "$2" "$dir/bad"; } # FORMAT NAME

# With a path of its own in front.
refused_below() { # PATTERN OPTION...
	local pattern=$1
	shift
	must qemu-img create -q -f qcow2 "$@" "$dir/unfit" 1M
	renamed qcow2 unfit
	refused "its backing file '$dir/unfit' $pattern"
}

test_names() {
	lb_step "names that lead to no local image"
	overlay "$dir/bad" 1M raw "$raw"
	renamed raw nbd://host/disk
	refused "'nbd://host/disk' of '$dir/bad': 'nbd' is neither a local file nor a block device"
	renamed qcow2 'json:{"driver":"qcow2","file":{"driver":"ssh","host":"h","path":"/p"}}'
	refused "'ssh' is neither"
	renamed raw 'json:{"driver":"raw","offset":512,"file":{"driver":"file","filename":"/p"}}'
	refused "member \"offset\" is not supported"
	renamed raw file:relative
	refused "relative to the directory that QEMU is started in"
	renamed raw nothere
	refused "the backing file '$dir/nothere' of '$dir/bad': No such file"
	renamed vmdk "$raw"
	refused "format \"vmdk\" is neither qcow2 nor raw"
	renamed qcow2 bad
	refused "in the chain already, as '$dir/bad'"
	renamed qcow2 unfit
	overlay "$dir/unfit" 1M raw "$raw"
	must qemu-img rebase -u -f qcow2 -F qcow2 -b bad "$dir/unfit"
	refused "in the chain already, as '$dir/bad'"
	must_fail "in the chain already" "$maint" info --backing-chain "$dir/bad"
	lb_step "a name without a format"
	renamed raw "$raw"
	# The type of the first header extension becomes one that nobody knows.
	printf '\1\2\3\4' | dd of="$dir/bad" bs=1 seek=112 conv=notrunc status=none
	refused "does not say which format.*'qemu-img rebase -u -b NAME -F FORMAT IMAGE'"
}

test_unfit_below() {
	lb_step "images below that cannot be taken"
	local pid
	overlay "$dir/bad" 1M raw "$raw"
	refused_below "has the incompatible feature 2 " -o "data_file=$dir/data"
	refused_below "is encrypted" --object secret,id=s,data=x -o encrypt.format=aes,encrypt.key-secret=s
	must qemu-img create -q -f qcow2 "$dir/unfit" 1M
	must qemu-io -f qcow2 -c "write -c -P 9 512k 64k" "$dir/unfit"
	must "$maint" attach "$dir/bad" "$name"
	must_hold raw "$device" 9 512k 64k
	must "$maint" detach "$name"
	must qemu-img create -q -f qcow2 "$dir/unfit" 1M
	qemu-io -f qcow2 -c "sleep 100000" "$dir/unfit" >/dev/null &
	pid=$!
	sleep 1
	refused "in use by qemu-io \\(process $pid\\)"
	kill "$pid"
	wait "$pid" || true
	must "$maint" attach "$dir/bad" "$name"
	must "$maint" detach "$name"
}

test_growth() {
	lb_step "what is longer below does not come into sight"
	overlay "$dir/bad" 1M raw "$raw"
	must_fail "would show in the new part" "$maint" resize "$dir/bad" 2M
	must "$maint" attach "$dir/bad" "$name"
	must_fail "would show in the new part" "$maint" resize "$name" 2M
	must_be_live "refused"
	[ "$(dmsetup status "$name" | cut -d' ' -f 9)" = 0 ] || lb_fail "I/O has failed"
	must "$maint" resize --shrink "$name" 512k
	cmp -n $((mib / 2)) "$device" "$raw" || lb_fail "not what is below"
	must "$maint" detach "$name"
	lb_check "$dir/bad"
}

# Each is a copy of one, with another number in its name and in the one that it names.
test_depth() {
	local i deep=$dir/deep
	lb_step "$layers layers"
	mkdir "$deep"
	must qemu-img create -q -f qcow2 -o cluster_size=4k "$deep/layer100" 1M
	must qemu-io -f qcow2 -c "write -P 5 0 1M" "$deep/layer100"
	must qemu-img create -q -f qcow2 -u -o cluster_size=4k -F qcow2 -b layer999 "$deep/template" 1M
	for ((i = 101; i <= 100 + layers; i++)); do
		LC_ALL=C sed "s/layer999/layer$((i - 1))/" "$deep/template" >"$deep/layer$i"
		[ $((i % 50)) -ne 0 ] || must qemu-io -f qcow2 -c "write -P $((i / 50)) $((i - 100))k 512" "$deep/layer$i"
	done
	must "$maint" attach "$deep/layer$((100 + layers))" "$name"
	must qemu-img convert -U -O raw "$deep/layer$((100 + layers))" "$model"
	same "$layers layers"
	must "$maint" snapshot create "$name" deep
	must "$maint" resize "$name" 2M
	[ "$("$maint" info --backing-chain --json "$name" | jq length)" = $((layers + 1)) ] || lb_fail "not all layers"
	must "$maint" detach "$name"
	lb_check "$deep/layer$((100 + layers))"
}

lb_load
make_chain
test_attach
test_live
test_revert
test_killed
test_replaced
test_names
test_unfit_below
test_growth
test_depth
lb_unload
