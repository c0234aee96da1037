// SPDX-License-Identifier: GPL-2.0-only
// What of the header's cluster lies behind its first sector, and how that changes on disk.
//
// An edit puts all in force by one write of the first sector. An extension may lie behind that. So it is made of writes
// that change one sector each, in an order in which the image is whole after each of them.
#pragma once

#include "qcow2/image.hpp"

namespace liveblk::qcow2 {

// Has the header name this bitmap directory, durably, of at least one bitmap.
void set_bitmap_extension(Image &image, const qcow2_bitmaps &directory);

// Has it name none.
void drop_bitmap_extension(Image &image);

} // namespace liveblk::qcow2
