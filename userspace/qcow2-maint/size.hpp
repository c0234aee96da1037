// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdint>
#include <string>

namespace liveblk::maint {

// SIZE, +N or -N with an optional suffix K, M, G, T, P or E, powers of 1024; the result is in bytes.
std::uint64_t parse_size(const std::string &text, std::uint64_t current);

} // namespace liveblk::maint
