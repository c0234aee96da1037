#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# test: broken images and 1500 mutations of them through qcow2-maint, with AddressSanitizer and UBSan
set -eu -o pipefail
# shellcheck source=tests/runner/lib.sh
. "$(dirname "$0")/lib.sh"

# The short form of make fuzz-maint; without LIVEBLK_SEED the same images each time.
LIVEBLK_SEED=${LIVEBLK_SEED:-1} scripts/fuzz-maint "${LIVEBLK_IMAGES:-1500}"
