// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "image.hpp"

#include <cstdint>

namespace liveblk::qcow2 {

// The size of the disk in the backing file, which is opened for reading, as the format that the image names.
std::uint64_t backing_size(const Image &image);

} // namespace liveblk::qcow2
