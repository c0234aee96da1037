# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# A device of device-mapper, and $model, a raw file of what it should read as. Needs tests/vm/lib.sh; what is random,
# tests/lib/random.sh.
# shellcheck disable=SC2154 # model, commands

# Sets "commands" to writes of all sizes, most of them to parts of clusters.
choose_writes() { # BYTES HOW-MANY
	local i at len
	commands=()
	for ((i = 0; i < $2; i++)); do
		random_below $(($1 / 512))
		at=$((REPLY * 512))
		random_below 160
		len=$(((REPLY + 1) * 512))
		[ $((at + len)) -le "$1" ] || len=$(($1 - at))
		random_below 254
		commands+=(-c "write -q -P $((REPLY + 1)) $at $len")
	done
}

# Commands of qemu-io, for the device and the model.
on_both() { # DEVICE -c COMMAND...
	local device=/dev/mapper/$1
	shift
	qemu-io -f raw -t none "$@" "$device" >/dev/null || lb_fail "qemu-io cannot write to $device"
	qemu-io -f raw "$@" "$model" >/dev/null || lb_fail "qemu-io cannot write to the model"
}

write_both() { # DEVICE BYTES HOW-MANY
	local commands
	choose_writes "$2" "$3"
	on_both "$1" "${commands[@]}"
}

zero_both() { # DEVICE OFFSET BYTES [BLKDISCARD-OPTION]
	blkdiscard ${4:+"$4"} -o "$2" -l "$3" "/dev/mapper/$1" || lb_fail "cannot zero"
	fallocate -p -o "$2" -l "$3" "$model"
}

same_as_model() { # DEVICE
	cmp "/dev/mapper/$1" "$model" || lb_fail "$1 does not read as it should"
}
