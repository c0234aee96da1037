// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdint>
#include <string>

namespace liveblk::maint {

// A size, or a step from the present one, in bytes.
struct Size {
    char sign = '\0'; // '+', '-', or 0 for a size
    std::uint64_t bytes = 0;

    // Refuses a step down that leaves nothing.
    std::uint64_t from(std::uint64_t present) const;
};

// SIZE, +N or -N, each in the form of parse_bytes().
Size parse_size(const std::string &text);
// Why that throws; empty if it does not.
std::string why_no_size(const std::string &text);

} // namespace liveblk::maint
