# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Images with compressed clusters, for the tests of them. Needs tests/vm/lib.sh.
# shellcheck disable=SC2034 # what is set here is for those who source it
# shellcheck disable=SC2154
# shellcheck source=tests/lib/assert.sh
. tests/lib/assert.sh
# shellcheck source=tests/lib/random.sh
. tests/lib/random.sh
# shellcheck source=tests/lib/model.sh
. tests/lib/model.sh

mib=1048576
name=packed
device=/dev/mapper/$name
maint=$LIVEBLK_BUILD/bin/qcow2-maint
random_start

# Text that is nowhere alike, with zeros in it and something that cannot be compressed.
make_source() { # FILE BYTES
	seq 1000000 3000000 | head -c "$2" >"$1" || true
	dd if=/dev/urandom of="$1" bs=64k seek=3 count=1 conv=notrunc status=none
	dd if=/dev/zero of="$1" bs=64k seek=9 count=2 conv=notrunc status=none
	truncate -s "$2" "$1"
}

compress() { # SOURCE IMAGE CLUSTER TYPE [OPTION]
	local type=",compression_type=$4"
	[[ ${5:-} != compat=0.10 ]] || type=''
	qemu-img convert -c -f raw -O qcow2 -o "cluster_size=$3$type${5:+,$5}" "$1" "$2" || lb_fail "cannot make $2"
}

compressed_clusters() { "$maint" info --json "$1" | jq '.usage."compressed-clusters"'; }
unpacked() { dmsetup status "${1:-$name}" | cut -d' ' -f18; }

fresh() { # what the next read finds was not read before
	sync
	blockdev --flushbufs "$device"
}

finish() { # IMAGE
	lb_detach "$name"
	lb_check "$1"
	qemu-img compare -q -f qcow2 -F raw "$1" "$model" || lb_fail "QEMU reads something else from $1"
}

each_kind() { # FUNCTION
	local cluster type n=0
	for type in zlib zstd; do
		for cluster in 4096 65536 2097152; do
			n=$((n + 1))
			lb_turn "$n" || continue
			lb_step "$type, clusters of $cluster, $1"
			"$1" "$cluster" "$type"
		done
	done
}

# Parts of clusters, whole ones, and what is in several.
write_over() { # CLUSTER
	local -a commands=()
	local i at len
	for ((i = 0; i < 25; i++)); do
		random_below $((size / 512 - 1024))
		at=$((REPLY * 512))
		random_below $((3 * $1 / 512 < 1000 ? 3 * $1 / 512 : 1000))
		len=$(((REPLY + 1) * 512))
		commands+=(-c "write -q -P $((i + 1)) $at $len")
	done
	commands+=(-c "write -q -P 77 $((2 * $1)) $1" -c "write -q -P 78 0 512" -c "write -q -P 79 $((size - 512)) 512")
	on_both "$name" "${commands[@]}"
}

number_at() { od -An -v -tu8 --endian=big -j "$2" -N 8 "$1" | tr -d ' '; } # FILE OFFSET
# The L2 entry of a guest cluster, in an image of one L2 table.
entry_at() { echo $((($(number_at "$bad" "$(number_at "$bad" 40)") & 0xfffffffffffe00) + $1 * 8)); } # CLUSTER

# Loads the modules and sets dir and tmp, for images and for models, and source, of size bytes.
begin_packed() {
	export PATH=$LIVEBLK_BUILD/bin:$PATH
	lb_load
	dir=$(lb_scratch 300 ext4)
	tmp=$(lb_scratch 400 tmpfs)
	source=$tmp/source model=$tmp/model
	size=$((6 * mib))
	make_source "$source" $size
}
