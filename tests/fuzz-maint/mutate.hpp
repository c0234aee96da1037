// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdint>
#include <vector>

namespace liveblk::fuzz {

// Changes a few fields of the header or entries of tables to values at the edges of what a check would look at.
void mutate(std::vector<std::uint8_t> &image, std::uint64_t seed);

} // namespace liveblk::fuzz
