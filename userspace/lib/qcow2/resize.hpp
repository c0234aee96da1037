// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/progress.hpp"
#include "qcow2/image.hpp"

#include <cstdint>

namespace liveblk::qcow2 {

enum class Shrink { refuse, allow };

// Throws if the size cannot be this one, as far as that can be told without a look at the disk's mapping.
void check_resize(const Image &image, std::uint64_t size, Shrink shrink);
// Throws if the disk cannot grow to this size because its backing file, which has a disk of backing bytes, would show.
void check_growth(const Image &image, std::uint64_t size, std::uint64_t backing);
// Changes the virtual size. What comes into being reads as zeros; what is cut off is lost.
void resize_image(Image &image, std::uint64_t size, Shrink shrink, std::uint64_t backing, Progress &progress);

} // namespace liveblk::qcow2
