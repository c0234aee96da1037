// SPDX-License-Identifier: GPL-2.0-only
// Goes over a small image, which may be broken: what it maps where, and how many contradictions it holds.
#pragma once

#include "oracle/reader.hpp"

namespace liveblk::oracle {

struct Survey {
    // False: not even the tables that the header names could be followed.
    bool readable = false;
    bool dirty = false;
    // References without a refcount, COPIED where it must not be, entries that point nowhere.
    std::uint64_t corruptions = 0;
    std::uint64_t cluster = 0;
    std::uint64_t unit = 0; // a cluster, or with extended L2 entries a subcluster
    // By guest unit: the host offset, or one of the values below.
    std::vector<std::uint64_t> active;
    std::vector<std::uint64_t> snapshot;
};

constexpr std::uint64_t maps_to_zero = 0;
constexpr std::uint64_t maps_to_nothing = ~0ULL;

Survey survey(std::span<const std::byte> image);
inline Survey survey(std::span<const std::uint8_t> image)
{
    return survey(std::as_bytes(image));
}

} // namespace liveblk::oracle
