// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "byte_size.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>

namespace liveblk::maint {

// Local time, to the second.
std::string human_date(std::uint32_t seconds);
// "12.5%"; "0.0%" of nothing
std::string percentage(std::uint64_t part, std::uint64_t whole);
// To standard output; names that are not UTF-8 are shown with replacement characters.
void print_json(nlohmann::ordered_json value);

} // namespace liveblk::maint
