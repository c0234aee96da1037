#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: jobs in one VM have a root, a log and a verdict of their own, and none sees what another has left
set -eu -o pipefail
# shellcheck source=tests/runner/lib.sh
. "$(dirname "$0")/lib.sh"

ko=$(build_complain "$newest") || fail "the module that complains could not be built"
server='' jobs='' answers=''

open_vm() {
	rm -f "$work"/{jobs,answers}
	mkfifo "$work/jobs" "$work/answers"
	scripts/vm serve --smp 1 --kernel "$newest" --disk 64M <"$work/jobs" >"$work/answers" 2>"$work/err" &
	server=$!
	exec {jobs}>"$work/jobs" {answers}<"$work/answers"
}

close_vm() {
	exec {jobs}>&-
	wait "$server" || true
	exec {answers}<&-
}

# job NAME ANSWER SCRIPT: the answer is that up to the costs.
job() {
	local name=$1 wanted=$2 answer=''
	rm -f "$work/out"
	printf '%q ' 300 "$work/$name.log" "$work/$name.kernel" "$work/$name.results" \
		bash -c 'exec "$@" 2>&1' - bash -eu -c "$3" >&"$jobs"
	echo >&"$jobs"
	read -r -t 600 -u "$answers" answer || answer=none
	cp "$work/$name.log" "$work/out" 2>/dev/null || true
	[ "$(cut -d ' ' -f 1-3 <<<"$answer")" = "$wanted" ] || fail "$name: the answer is '$answer', not '$wanted'"
}

log_says() { grep -qF -- "$2" "$work/$1.log" || fail "the log of $1 does not say: $2"; }

open_vm
echo "whatever is left is taken away"
# shellcheck disable=SC2016 # expanded in the VM
job leaves "done 0 up" '
	echo out; echo err >&2; echo "a line of leaves" >/dev/kmsg; echo result >"$LIVEBLK_RESULTS/file"
	echo changed >/etc/hostname; echo x >/tmp/x; echo y >/run/y; echo z >/dev/shm/z
	sleep 1000 &
	mkdir -p /sys/fs/cgroup/deep/below /mnt/disk /mnt/memory
	modprobe brd; modprobe dm-mod; modprobe ext4; modprobe loop
	dd if=/dev/urandom of=/dev/vda bs=1M count=1 status=none
	dmsetup create left --table "0 65536 linear /dev/ram0 0"
	mkfs.ext4 -q /dev/mapper/left; mount /dev/mapper/left /mnt/disk; echo w >/mnt/disk/w
	mount -t tmpfs memory /mnt/memory; losetup -f /dev/ram1; mkswap /dev/ram2 >/dev/null; swapon /dev/ram2
	insmod build/modules/$(uname -r)/blk-copy.ko
	dmsetup suspend left'
for line in out err; do grep -qx $line "$work/leaves.log" || fail "output is lost"; done
[ "$(cat "$work/leaves.results/file")" = result ] || fail "results do not come back"
grep -q "a line of leaves" "$work/leaves.kernel" || fail "the kernel log is lost"

echo "the next one finds nothing of it, and has what a job has alone"
# shellcheck disable=SC2016 # expanded in the VM
job sees "done 77 up" '
	no() { if "$@"; then echo "it holds: $*"; exit 1; fi; }
	for path in /tmp/x /run/y /dev/shm/z "$LIVEBLK_RESULTS/file" /sys/module/{blk_copy,brd,dm_mod} \
		/sys/fs/cgroup/deep /dev/ram0; do no test -e "$path"; done
	no grep -q changed /etc/hostname
	no grep -q "a line of leaves" <(dmesg)
	no grep -qE "ext4|/mnt/memory" /proc/mounts
	[ "$(wc -l </proc/swaps)" = 1 ]
	no grep -zqx 1000 /proc/[0-9]*/cmdline
	cmp -n $((64 << 20)) /dev/vda /dev/zero
	unshare --user true
	echo "nothing to be seen"; exit 77'
! grep -q "a line of leaves" "$work/sees.kernel" || fail "the kernel log of another job"

echo "a setting that is not put back costs a new VM, no verdict"
job sets "done 0 over" 'echo 77 >/proc/sys/vm/swappiness'
log_says sets "vm/swappiness:77"
close_vm

echo "an oops is a failure of the job that has caused it, with its log"
open_vm
job before "done 0 up" 'true'
job oops "done 125 over" "insmod $ko what=oops || true; sleep 1"
log_says oops "the kernel complained"
log_says oops "Comm: insmod"
! grep -q "Comm: insmod" "$work/before.kernel" || fail "in the log of the job before"
close_vm

echo "one of ours that stays in use is a failure, and so is a status"
open_vm
job holds "done 125 over" "insmod build/modules/\$(uname -r)/blk-copy.ko; insmod $ko what=hold holds=blk_copy_is_own"
log_says holds "module blk_copy"
close_vm
open_vm
job fails "done 3 over" 'echo broken; exit 3'
close_vm

echo "a VM that ends after a verdict"
open_vm
job good "done 0 up" 'true'
for pid in $(<"/proc/$server/task/$server/children"); do
	[[ $(<"/proc/$pid/comm") != qemu* ]] || { kill -KILL "$pid"; killed=$pid; }
done
# It is to be dead when the next one comes.
while [[ $(ps -o stat= -p "$killed") == [!Z]* ]]; do sleep 0.1; done
job next "late" 'true'
log_says good "after its end"
[ ! -e "$work/next.log" ] || fail "the next one was begun"
close_vm
