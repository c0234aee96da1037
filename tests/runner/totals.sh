#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: run-tests counts what passed, failed and was skipped, parts of tests too
set -eu -o pipefail
# shellcheck source=tests/runner/lib.sh
. "$(dirname "$0")/lib.sh"

# A tree with a few tests that end in a known way.
tree=$work/tree
mkdir -p "$tree/tests/runner" "$tree/tests/vm" "$tree/kernel/compat"
cp -r scripts "$tree/"
cp kernel/compat/tested.h "$tree/kernel/compat/"

fake() { # NAME COMMANDS
	printf '#!/bin/bash\n# test: %s\n%s\n' "$1" "$2" >"$tree/tests/runner/$1.sh"
	chmod +x "$tree/tests/runner/$1.sh"
}

totals() { # STATUS LINE TEST...
	local wanted=$1 line=$2 status=0
	shift 2
	"$tree/scripts/run-tests" --built "$@" >"$work/out" 2>"$work/err" || status=$?
	[ "$status" -eq "$wanted" ] || fail "run-tests $* returned $status, not $wanted"
	[ "$(tail -n 1 "$work/out")" = "$line" ] || fail "run-tests $*: the total is not '$line'"
}

fake passes 'true'
fake parts 'echo shown; echo "part skipped: no such device" >&2; echo "part skipped: no such driver" >&2'
fake skips 'echo "no such kernel"; exit 77'
fake silent 'exit 77'
fake fails 'echo "part skipped: of no interest" >&2; echo "it is broken"; exit 1'

totals 0 "1 passed, 0 failed, 0 skipped" passes
totals 0 "1 passed, 0 failed, 2 skipped" parts
grep -q '^skip host .*parts, a part of it - no such driver$' "$work/out" || fail "what is skipped is not said"
totals 1 "0 passed, 0 failed, 1 skipped" skips
totals 0 "2 passed, 0 failed, 3 skipped" passes parts skips
totals 1 "1 passed, 2 failed, 0 skipped" passes silent fails
grep -q 'it is broken' "$work/out" || fail "the reason of a failure is not shown"
tail -n 3 "$work/out" | grep -qx '# failed: fails on host: it is broken' || fail "the end does not say what failed"
