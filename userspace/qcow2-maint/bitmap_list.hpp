// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/json.hpp"
#include "qcow2/bitmaps.hpp"

#include <vector>

namespace liveblk::maint {

Json bitmaps_as_json(const std::vector<qcow2::Bitmap> &bitmaps);
void print_bitmaps(const std::vector<qcow2::Bitmap> &bitmaps);

} // namespace liveblk::maint
