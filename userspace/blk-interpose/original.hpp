// SPDX-License-Identifier: GPL-2.0-only
// The device that is interposed, and tables that name it.
#pragma once

#include "dm/device.hpp"

#include <cstdint>
#include <string>

namespace liveblk::interpose {

// Size in sectors of 512 bytes.
std::uint64_t sectors_of(const std::string &device);

// A table of one line, in which one word is "[interpose]" and a device.
struct MarkedTable {
    dm::Target target;
    std::string original;

    // The same with the lower disk in its place.
    dm::Target on(const std::string &lower) const;
};

// Throws Error unless the text is "START LENGTH TYPE PARAMETERS" with one mark in it.
MarkedTable parse_table(const std::string &text);

} // namespace liveblk::interpose
