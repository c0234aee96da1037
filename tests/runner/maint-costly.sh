#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: small images that claim the most work the format has words for take qcow2-maint seconds and little memory
set -eu -o pipefail
# shellcheck source=tests/runner/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/maint/lib.sh
. "$repo/tests/maint/lib.sh"

# Of the processors, so that what else runs here does not count.
most_seconds=10 most_mib=512

bounded() { # WORD...
	local result
	# Some have hundreds of megabytes to say.
	result=$(timeout 300 "$repo/build/bin/measure" "$maint" "$@" 2>/dev/null) || fail "no end within 300 s: $*"
	jq -c --arg what "$*" '{what: $what} + .' <<<"$result" | sed "s|$images/||"
	jq -e --argjson s "$most_seconds" --argjson m "$most_mib" \
		'.user + .system < $s and .maxrss_kib < $m * 1024 and .status < 4' <<<"$result" >/dev/null ||
		fail "too much time or memory, or a crash: $*"
}

images=$work/images
mkdir "$images"
"$repo/build/bin/costly-images" "$images"
for image in "$images"/*; do
	bounded info "$image"
	bounded info --json "$image"
	bounded check "$image"
	bounded check --json "$image"
	bounded snapshot list "$image"
	bounded snapshot list --json "$image"
	bounded check --repair all "$image"
	bounded snapshot create "$image" one
done
