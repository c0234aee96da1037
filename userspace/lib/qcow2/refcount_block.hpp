// SPDX-License-Identifier: GPL-2.0-only
// Entries of a refcount block.
#pragma once

#include "qcow2/big_endian.hpp"
#include "qcow2/format.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace liveblk::qcow2 {

inline std::uint64_t refcount_get(std::span<const std::byte> block, std::uint64_t index, unsigned order)
{
    return qcow2_refcount_get(block.data(), static_cast<unsigned>(index), order);
}

inline void refcount_set(std::span<std::byte> block, std::uint64_t index, unsigned order, std::uint64_t value)
{
    qcow2_refcount_set(block.data(), static_cast<unsigned>(index), order, value);
}

// The same for 16 bits, in loops that the compiler vectorises.
inline std::uint16_t refcount_get_16(const std::byte *data, std::uint64_t index)
{
    std::uint16_t value;
    std::memcpy(&value, data + index * sizeof(value), sizeof(value));
    return big_endian(value);
}

inline void refcount_set_16(std::byte *data, std::uint64_t index, std::uint16_t value)
{
    value = big_endian(value);
    std::memcpy(data + index * sizeof(value), &value, sizeof(value));
}

// Adds step to count entries from index on as long as each has a value from low to high; returns how many it did. The
// width that nearly all images have is worth a loop of its own, which the compiler vectorises.
inline std::uint64_t refcount_step(std::span<std::byte> block, std::uint64_t index, std::uint64_t count, unsigned order,
                                   std::uint64_t low, std::uint64_t high, std::uint64_t step)
{
    std::uint64_t done = 0;
    if (order == 4) {
        constexpr std::uint64_t chunk = 256;
        for (; count - done >= chunk; done += chunk) {
            std::byte *data = block.data() + (index + done) * 2;
            bool good = true;
            for (std::uint64_t i = 0; i < chunk; i++) {
                const auto v = refcount_get_16(data, i);
                good &= v >= static_cast<std::uint16_t>(low) && v <= static_cast<std::uint16_t>(high);
            }
            if (!good)
                break;
            for (std::uint64_t i = 0; i < chunk; i++)
                refcount_set_16(data, i, static_cast<std::uint16_t>(refcount_get_16(data, i) + step));
        }
    }
    for (; done < count; done++) {
        const std::uint64_t v = refcount_get(block, index + done, order);
        if (v < low || v > high)
            return done;
        refcount_set(block, index + done, order, v + step);
    }
    return done;
}

// The first entry of 0 from one index on and before another; the latter if there is none.
inline std::uint64_t refcount_find_zero(std::span<const std::byte> block, std::uint64_t index, std::uint64_t end,
                                        unsigned order)
{
    if (order == 4) {
        constexpr std::uint64_t chunk = 256;
        for (; end - index >= chunk; index += chunk) {
            const std::byte *data = block.data() + index * 2;
            bool zero = false;
            for (std::uint64_t i = 0; i < chunk; i++)
                zero |= refcount_get_16(data, i) == 0;
            if (zero)
                break;
        }
    }
    while (index < end && refcount_get(block, index, order))
        index++;
    return index;
}

} // namespace liveblk::qcow2
