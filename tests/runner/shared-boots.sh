#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: run-tests shares boots between tests that want the same VM, and gives each its own verdict; kernels take turns
set -eu -o pipefail
# shellcheck source=tests/runner/lib.sh
. "$(dirname "$0")/lib.sh"
# Of the call that runs this test.
unset KVER TEST

# A tree with tests of a known end, whose "VM" is a script: it says which test is in which VM, and needs no time.
tree=$work/tree
mkdir -p "$tree"/tests/{runner,vm/part} "$tree/kernel/compat"
cp -r scripts "$tree/"
sed 's/^#define LIVEBLK_TESTED_KERNELS .*/#define LIVEBLK_TESTED_KERNELS "5.1 5.2"/' kernel/compat/tested.h \
	>"$tree/kernel/compat/tested.h"

fake_vm() {
	cat <<-'V'
	#!/bin/bash
	# The protocol of scripts/vm.d/serve.sh. A test that prints "over" leaves its VM unfit, one that prints "late" has
	# it complain later, one that prints "gone" has it end without an answer.
	set -eu
	mode=$1 boot=$RANDOM$RANDOM late=''
	shift
	run() { "$@" || status=$?; }
	status=0
	if [ "$mode" = run ]; then
		while [ "$1" != -- ]; do shift; done
		shift
		echo "own: ${*: -1}" >>"$LIVEBLK_BOOTS"
		exec "$@"
	fi
	echo "boot $boot: $*" >>"$LIVEBLK_BOOTS"
	while IFS= read -r line; do
		[ -z "$late" ] || { echo late; exit; }
		eval "words=($line)"
		echo "in $boot: ${words[@]: -1}" >>"$LIVEBLK_BOOTS"
		status=0
		run "${words[@]:4}" >>"${words[1]}"
		state=up
		[ "$status" = 0 ] || state=over
		! grep -qx over "${words[1]}" || state=over
		! grep -qx late "${words[1]}" || late=yes
		! grep -qx gone "${words[1]}" || { echo "the VM is gone" >&2; exit 1; }
		echo "done $status $state 7 0"
		[ "$state" = up ] || exit 0
	done
	[ -z "$late" ] || echo late
	V
}
fake_vm >"$tree/scripts/vm"
export LIVEBLK_BOOTS=$work/boots LIVEBLK_JOBS=1 LIVEBLK_COMMIT=one

fake() { # NAME COMMANDS [HEADER-LINE]...
	{
		printf '#!/bin/bash\n# test: %s\n' "$1"
		[ $# -lt 3 ] || printf '%s\n' "${@:3}"
		echo "$2"
	} >"$tree/tests/vm/part/$1.sh"
	chmod +x "$tree/tests/vm/part/$1.sh"
}

# run_tests STATUS TOTAL OPTION|TEST...: output in $work/out, boots in $work/boots
run_tests() {
	local wanted=$1 line=$2 status=0
	shift 2
	: >"$work/boots"
	"$tree/scripts/run-tests" --built "$@" >"$work/out" 2>"$work/err" || status=$?
	[ "$status" -eq "$wanted" ] || fail "run-tests $* returned $status, not $wanted"
	[ "$(tail -n 1 "$work/out")" = "$line" ] || fail "run-tests $*: the total is not '$line'"
}

boots() { # NUMBER
	local n
	n=$(grep -c '^boot ' "$work/boots") || true
	[ "$n" = "$1" ] || { cat "$work/boots"; fail "$n boots, not $1"; }
}

must_say() { grep -qE -- "$1" "$work/out" || fail "not said: $1"; }

fake a 'true'
fake b 'echo "part skipped: no such thing"'
fake c 'true'
fake alone 'true' '# boot: own'
fake small 'true' '# mem: 2G'
fake large 'true' '# mem: 6G'
fake disk 'true' '# disks: 64M'
fake bad 'echo broken; exit 1' '# timeout: 301'
fake leaves 'echo over' '# timeout: 301'
fake later 'echo late' '# timeout: 301'
fake ends 'echo gone' '# timeout: 301'
fake newest 'true' '# kernels: 5.2'

echo "one boot for all that want the same VM"
KVER=5.2 run_tests 0 "4 passed, 0 failed, 1 skipped" a b c small
boots 1
KVER=5.2 run_tests 0 "5 passed, 0 failed, 0 skipped" a small large disk alone
boots 3
grep -q '^own: .*alone.sh' "$work/boots" || fail "what asks for its own VM has not got one"
KVER=5.2 LIVEBLK_SHARE=no run_tests 0 "2 passed, 0 failed, 0 skipped" a c
boots 0
run_tests 0 "4 passed, 0 failed, 0 skipped" a c
boots 2

echo "a failure is that of its test, and the next one gets a fresh VM"
KVER=5.2 run_tests 1 "2 passed, 1 failed, 0 skipped" bad a c
boots 2
must_say '^FAIL 5.2 .*bad '
must_say 'broken'
KVER=5.2 run_tests 0 "3 passed, 0 failed, 0 skipped" leaves a c
boots 2

echo "what comes after a verdict is a failure all the same, and of that test"
KVER=5.2 run_tests 1 "3 passed, 1 failed, 0 skipped" later a c
boots 2
must_say '^FAIL 5.2 .*later, after its end '
KVER=5.2 run_tests 1 "1 passed, 1 failed, 0 skipped" later
must_say '^FAIL 5.2 .*later, after its end '
KVER=5.2 run_tests 1 "2 passed, 1 failed, 0 skipped" ends a c
must_say '^FAIL 5.2 .*ends '
must_say 'the VM is gone'

echo "each test on one kernel, and then on the other; another commit begins with the other"
listed() { "$tree/scripts/run-tests" --list "$@" | sort; }
once=$(listed --once) rest=$(listed --rest)
[ "$(wc -l <<<"$once")" = 12 ] || fail "not every test once: $once"
[ "$(printf '%s\n%s\n' "$once" "$rest" | sort)" = "$(listed)" ] || fail "--once and --rest are not all"
for v in 5.1 5.2; do grep -q " $v\$" <<<"$once" || fail "all on the same kernel"; done
seen=''
for commit in one two three four five six seven eight nine ten; do
	seen+=" $(LIVEBLK_COMMIT=$commit listed --once | sed -n 's/^vm a //p')"
done
[[ $seen == *5.1* && $seen == *5.2* ]] || fail "a test has the same kernel in ten commits: $seen"
[ "$(listed --once)" = "$once" ] || fail "a commit is not the same twice"

echo "what was run on both is counted, and what there was no time for"
rm "$tree"/tests/vm/part/{bad,leaves,later,ends}.sh
run_tests 0 "8 passed, 0 failed, 1 skipped" --once
run_tests 0 "7 passed, 0 failed, 1 skipped" --rest
must_say '^# 7 tests on both kernels, 0 on one$'
run_tests 0 "8 passed, 0 failed, 1 skipped" --once
LIVEBLK_BUDGET=0 run_tests 0 "0 passed, 0 failed, 0 skipped" --rest
must_say '^# 0 tests on both kernels, 7 on one$'
LIVEBLK_BUDGET=0 run_tests 0 "0 passed, 0 failed, 8 skipped" --once
must_say '^skip .* a .*no time left'
run_tests 0 "8 passed, 0 failed, 1 skipped" --once
sed -i 's/^a \(.*\) [0-9]* [0-9]*$/a \1 500 500/' "$tree/build/logs/ran"
LIVEBLK_END=600 run_tests 0 "6 passed, 0 failed, 1 skipped" --rest
must_say '^# 6 tests on both kernels, 1 on one$'
must_say '^# +500 +500 +a on '

echo "what is marked as first begins first, then what may take longest"
fake slow 'true' '# timeout: 900'
fake urgent 'true' '# first: yes'
[ "$(KVER=5.2 "$tree/scripts/run-tests" --list | head -n 2 | tr '\n' ' ')" = "vm urgent 5.2 vm slow 5.2 " ] || fail "another order"
