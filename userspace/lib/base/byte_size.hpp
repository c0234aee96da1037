// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdint>
#include <string>

namespace liveblk {

inline constexpr const char *byte_size_help =
    "bytes, 0xHEX, or a decimal number like 1.5 with a suffix K, M, G, T, P, E";

// A number of bytes as qemu-img takes it: decimal, with an optional suffix K, M, G, T, P or E (powers of 1024) or B, or
// hexadecimal without one. With a suffix it may have a fraction, and the nearest byte is meant. At most 2^63 - 1.
std::uint64_t parse_bytes(const std::string &text);

// "1.5 GiB"
std::string human_size(std::uint64_t bytes);

} // namespace liveblk
