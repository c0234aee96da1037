// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/byte_size.hpp"

#include <cstdint>
#include <string>

namespace liveblk::maint {

// Local time, to the second.
std::string human_date(std::uint32_t seconds);
// "12.5%"; "0.0%" of nothing
std::string percentage(std::uint64_t part, std::uint64_t whole);

} // namespace liveblk::maint
