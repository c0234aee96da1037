# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What several scripts need: sourced, not run.
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # for the scripts that source this
cache=${XDG_CACHE_HOME:-$HOME/.cache}/liveblk

die() { echo "${0##*/}: $*" >&2; exit 1; }

# The kernels that every change is built for and tested on.
read -r -a tested_versions < <(sed -n 's/^#define LIVEBLK_TESTED_KERNELS "\(.*\)"$/\1/p' "$repo/kernel/compat/tested.h")
[ ${#tested_versions[@]} -gt 0 ] || die "kernel/compat/tested.h names no kernels"
# shellcheck disable=SC2034 # for the scripts that source this
newest=${tested_versions[-1]}

is_version() { # NAME: whether it is one of those, and no release
	local v
	for v in "${tested_versions[@]}"; do [ "$v" != "$1" ] || return 0; done
	return 1
}

# The versions and their debug kernels, for messages.
named_kernels() { echo "${tested_versions[*]} ${tested_versions[*]/#/debug-}"; }

# Debian's packages of a version. The first one is that of the release, whose packages have no version in their name.
kernel_packages() { # VERSION
	local v=-$1
	[ "$1" != "${tested_versions[0]}" ] || v=''
	cat <<-P
	linux-image$v-amd64         kernel $1, for the VMs
	linux-headers$v-amd64       kernel $1, to build for
	linux-source-$1          the debug kernel $1; checkpatch, if it is the newest
	P
}

# Directory to build modules in for a kernel: a release, a tested version, or debug-VERSION.
headers_of() {
	local dir release
	case $1 in
	debug-*)
		dir=$("$repo/scripts/debug-kernel" --path "${1#debug-}")
		[ -e "$dir/release" ] || die "the kernel $1 is not built: run scripts/debug-kernel ${1#debug-}"
		echo "$dir/build"
		return ;;
	*)
		release=$1
		if is_version "$1"; then
			release=$(installed_headers | grep "^${1//./\\.}[.-]" | tail -n 1) ||
				die "no headers of a kernel $1 are installed: run scripts/install-deps"
		fi ;;
	esac
	for dir in "/lib/modules/$release/build" "/usr/src/linux-headers-$release"; do
		if [ -e "$dir/Makefile" ]; then
			echo "$dir"
			return
		fi
	done
	die "no headers of the kernel $1 are installed (linux-headers-$1)"
}

# Releases whose headers are installed, oldest first.
installed_headers() {
	local dir
	for dir in /lib/modules/*/build /usr/src/linux-headers-*; do
		[ -e "$dir/include/generated/utsrelease.h" ] || continue
		release_of_headers "$dir"
	done | sort -uV
}

# Not include/config/kernel.release: Debian's lacks the flavour.
release_of_headers() { sed -n 's/^#define UTS_RELEASE "\(.*\)"/\1/p' "$1/include/generated/utsrelease.h"; }

# The scripts of the VM tests. A test's name is that of its file, whatever its folder.
vm_test_files() { (cd "$repo" && find tests/vm -mindepth 2 -name '*.sh' ! -name lib.sh -perm -u+x | LC_ALL=C sort); }

# Nothing, if there is no such test.
vm_test_file() { vm_test_files | grep -m 1 "/$1\\.sh\$" || true; } # NAME

is_tested() {
	local v
	for v in "${tested_versions[@]}"; do
		case $1 in "$v" | "$v".* | "$v"-*) return 0 ;; esac
	done
	return 1
}
