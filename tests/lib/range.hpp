// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdint>

namespace liveblk::test {

// Bytes [offset, offset + length) of a device.
struct Range {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;

    std::uint64_t end() const { return offset + length; }
    bool overlaps(const Range &other) const { return offset < other.end() && other.offset < end(); }

    // The smallest range of whole units around it, within limit.
    Range widened(std::uint64_t unit, std::uint64_t limit) const
    {
        const std::uint64_t from = offset / unit * unit;
        const std::uint64_t to = (end() + unit - 1) / unit * unit;
        return {from, (to < limit ? to : limit) - from};
    }

    // The largest range of whole units in it; length 0 when it holds none.
    Range narrowed(std::uint64_t unit) const
    {
        const std::uint64_t from = (offset + unit - 1) / unit * unit;
        const std::uint64_t to = end() / unit * unit;
        return {from, to > from ? to - from : 0};
    }
};

} // namespace liveblk::test
