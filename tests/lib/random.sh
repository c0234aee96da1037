# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Random choices that a seed repeats. No subshells: they would not advance the state.

random_state=0

random_seed() { # NUMBER
	random_state=$(($1 * 2862933555777941757 + 3037000493))
	random_below 2
}

# Sets seed to LIVEBLK_SEED, or to any, says which, and begins with it.
random_start() {
	seed=${LIVEBLK_SEED:-$((RANDOM * 32768 + RANDOM))}
	echo "seed $seed (LIVEBLK_SEED)"
	random_seed "$seed"
}

# REPLY: a number in [0, LIMIT)
random_below() { # LIMIT
	random_state=$((random_state * 6364136223846793005 + 1442695040888963407))
	REPLY=$((((random_state >> 33) & 0x7fffffff) % $1))
}

# Sets VARIABLE to one of the words.
random_pick() { # VARIABLE WORD...
	local -n random_target=$1
	shift
	random_below $#
	shift "$REPLY"
	# shellcheck disable=SC2034 # a name reference
	random_target=$1
}

random_percent() { # SHARE
	random_below 100
	((REPLY < $1))
}
