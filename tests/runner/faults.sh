#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: run-faults tells faults that are caught from those that survive, and from those that show nothing
set -eu -o pipefail
# shellcheck source=tests/runner/lib.sh
. "$(dirname "$0")/lib.sh"

# A tree whose "module" is a file with three lines, and whose tests look at it.
tree=$work/tree
mkdir -p "$tree"/{tests/{runner,vm,faults},userspace,kernel/compat}
cp -r scripts "$tree/"
cp kernel/compat/tested.h "$tree/kernel/compat/"
printf '/build/\n' >"$tree/.gitignore"
printf 'tools:\n\t@! grep -q nonsense kernel/module.c\n' >"$tree/Makefile"
printf '#!/bin/bash\ntrue\n' >"$tree/scripts/build-modules"
printf 'first\nsecond\nthird\n' >"$tree/kernel/module.c"

fake_test() { # NAME COMMANDS
	printf '#!/bin/bash\n# test: %s\n%s\n' "$1" "$2" >"$tree/tests/runner/$1.sh"
	chmod +x "$tree/tests/runner/$1.sh"
}

in_tree() { git -C "$tree" -c user.name=test -c user.email=test@localhost "$@"; }

# The module's second line becomes TEXT.
fault() { # NAME TEST TEXT [LINE]...
	local file=$tree/tests/faults/$1.patch
	printf '# fault: the second line is %s\n# test: %s\n# kernel: %s\n' "$3" "$2" "$newest" >"$file"
	[ $# -lt 4 ] || printf '%s\n' "${@:4}" >>"$file"
	sed -i "s/second/$3/" "$tree/kernel/module.c"
	git -C "$tree" diff -U1 -- kernel >>"$file"
	git -C "$tree" checkout -q -- kernel
}

# faults STATUS PATTERN [ARGUMENT...]: how it ends, and what it says
faults() {
	local wanted=$1 pattern=$2 status=0
	shift 2
	"$tree/scripts/run-faults" "$@" >"$work/out" 2>"$work/err" || status=$?
	[ "$status" -eq "$wanted" ] || fail "run-faults $* returned $status, not $wanted"
	[ -z "$pattern" ] || grep -qE "$pattern" "$work/out" || fail "run-faults $* does not say '$pattern'"
}

# shellcheck disable=SC2016 # expanded by the test
fake_test looks 'grep -q second kernel/module.c || { echo "FAIL: it has become $(sed -n 2p kernel/module.c)"; exit 1; }'
fake_test sleeps 'true'
fake_test skips 'echo "nothing to be seen"; exit 77'
in_tree init -q
in_tree add -A
in_tree commit -q -m all

fault plain looks fourth
fault said looks fourth '# says: become fourth'
faults 0 '^2 caught, 0 survived, 0 errors$'
faults 0 '^caught   plain .*looks: FAIL: it has become fourth' plain
faults 0 '' --check
grep -q second "$tree/kernel/module.c" || fail "the tree itself was changed"

fault unseen sleeps fourth
faults 1 '^survived unseen .*sleeps passed although the second line is fourth' unseen
faults 1 '^2 caught, 1 survived, 0 errors$'

# What shows nothing is not caught.
fault otherwise looks fourth '# says: become fifth'
fault skipped skips fourth
fault unbuilt looks nonsense
fault moved looks fourth
sed -i 's/second/2nd/' "$tree/tests/faults/moved.patch"
for name in otherwise skipped unbuilt moved missing; do faults 1 "^error    $name " "$name"; done
faults 1 '^0 caught, 0 survived, 1 errors$' moved
faults 1 'moved.patch: does not apply' --check
rm "$tree/tests/faults/moved.patch"
faults 0 '' --check

fault nobodys absent fourth
faults 1 "there is no test 'absent'" --check nobodys
sed -i '/^# kernel/d' "$tree/tests/faults/plain.patch"
faults 1 "names no tested kernel" --check plain

# Only what is committed is tested.
echo changed >>"$tree/kernel/module.c"
fake_test sleeps 'exit 1'
faults 1 '^survived unseen ' unseen
