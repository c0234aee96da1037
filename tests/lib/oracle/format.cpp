// SPDX-License-Identifier: GPL-2.0-only
#include "oracle/format.hpp"

namespace liveblk::oracle::format {

std::uint64_t get_refcount(std::span<const std::byte> bytes, std::uint64_t block, unsigned order, std::uint64_t index)
{
    unsigned bits = 1U << order;
    if (bits < 8) {
        unsigned per_byte = 8 / bits;
        std::uint8_t byte = get<std::uint8_t>(bytes, block + index / per_byte);
        return byte >> index % per_byte * bits & ((1U << bits) - 1);
    }
    std::uint64_t value = 0;
    for (unsigned i = 0; i < bits / 8; i++)
        value = value << 8 | get<std::uint8_t>(bytes, block + index * (bits / 8) + i);
    return value;
}

void put_refcount(std::span<std::uint8_t> bytes, std::uint64_t block, unsigned order, std::uint64_t index,
                  std::uint64_t value)
{
    unsigned bits = 1U << order;
    if (bits < 8) {
        unsigned per_byte = 8 / bits;
        unsigned shift = static_cast<unsigned>(index % per_byte) * bits;
        unsigned mask = ((1U << bits) - 1) << shift;
        std::uint64_t at = block + index / per_byte;
        unsigned byte = get<std::uint8_t>(bytes, at);
        put<std::uint8_t>(bytes, at, (byte & ~mask) | (value << shift & mask));
        return;
    }
    for (unsigned i = 0; i < bits / 8; i++)
        put<std::uint8_t>(bytes, block + index * (bits / 8) + i, value >> 8 * (bits / 8 - 1 - i));
}

} // namespace liveblk::oracle::format
