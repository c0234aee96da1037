// SPDX-License-Identifier: GPL-2.0-only
// What dm-era has recorded.
#pragma once

#include "dm/device.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace liveblk::interpose {

// Bytes [begin, end) of the original.
struct ChangedRange {
    std::uint64_t begin;
    std::uint64_t end;
};

struct Changes {
    std::uint64_t since = 0;   // era
    std::uint64_t now = 0;     // the era that begins with this answer
    std::uint64_t granule = 0; // bytes
    std::vector<ChangedRange> ranges;
};

// The blocks written in the given era or later. Begins a new era, so that what is written from here on is in the next
// answer. Throws Error.
Changes read_changes(const dm::Device &era, std::uint64_t since);

// The current era of a device of dm-era. Throws if it is none.
std::uint64_t current_era(const dm::Device &era);

} // namespace liveblk::interpose
