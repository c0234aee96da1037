#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: the runner returns the command's status, and fails for a WARN, a crash and a hang
set -eu -o pipefail
# shellcheck source=tests/runner/lib.sh
. "$(dirname "$0")/lib.sh"

ko=$(build_complain "$newest") || fail "the module that complains could not be built"

echo "status, output, arguments and environment arrive"
# shellcheck disable=SC2016 # expanded in the VM
LIVEBLK_SEED=77 expect 3 --kernel "$newest" -- bash -c \
	'echo "out: $1 seed $LIVEBLK_SEED in $PWD"; echo "err: $2" >&2; exit 3' - 'two  words' 'a "quote"'
[ "$(cat "$work/out")" = "out: two  words seed 77 in $repo" ] || fail "other output than expected"
grep -qxF 'err: a "quote"' "$work/err" || fail "standard error is not what was written"

echo "a WARN fails the run although the command succeeds"
expect 125 --kernel "$newest" -- insmod "$ko" what=warn
said "complain was asked for this"

echo "an oops fails the run and is shown"
expect 125 --kernel "$newest" -- insmod "$ko" what=oops
said "Comm: insmod"

echo "a panic fails the run and is shown"
expect 125 --kernel "$newest" -- bash -c 'echo c >/proc/sysrq-trigger; sleep 100'
said "sysrq triggered crash"

echo "a sudden power-off is no success"
expect 125 --kernel "$newest" -- bash -c 'echo o >/proc/sysrq-trigger; sleep 100'
said "without a verdict"

echo "a kernel that never gets to userspace has a second try, and no third"
expect 125 --kernel "$newest" --append rdinit=/none -- true
said "trying once more"
said "Kernel panic"

echo "a command that does not end is ended"
expect 124 --kernel "$newest" --timeout 60 -- bash -c 'echo started; sleep 1000'
grep -qx started "$work/out" || fail "its output is lost"
said "no end after 60 s"
said "time limit is near"
