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

# Directory to build modules in for: a release, 6.1, 6.12, debug-6.1 or debug-6.12.
headers_of() {
	local dir release
	case $1 in
	debug-*)
		dir=$("$repo/scripts/debug-kernel" --path "${1#debug-}")
		[ -e "$dir/release" ] || die "the kernel $1 is not built: run scripts/debug-kernel ${1#debug-}"
		echo "$dir/build"
		return ;;
	6.1 | 6.12)
		release=$(installed_headers | grep "^${1//./\\.}[.-]" | tail -n 1) ||
			die "no headers of a kernel $1 are installed: run scripts/install-deps" ;;
	*) release=$1 ;;
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

is_tested() {
	local v
	for v in "${tested_versions[@]}"; do
		case $1 in "$v" | "$v".* | "$v"-*) return 0 ;; esac
	done
	return 1
}
