// SPDX-License-Identifier: GPL-2.0-only
// Entries of a refcount block. Those narrower than a byte are packed from the least significant bit on.
#pragma once

#include "big_endian.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace liveblk::qcow2 {

template <std::unsigned_integral T>
T packed_get(const std::byte *data, std::uint64_t index)
{
    T value;
    std::memcpy(&value, data + index * sizeof(T), sizeof(T));
    return big_endian(value);
}

template <std::unsigned_integral T>
void packed_set(std::byte *data, std::uint64_t index, T value)
{
    value = big_endian(value);
    std::memcpy(data + index * sizeof(T), &value, sizeof(T));
}

inline std::uint64_t refcount_get(std::span<const std::byte> block, std::uint64_t index, unsigned order)
{
    switch (order) {
    case 3:
        return packed_get<std::uint8_t>(block.data(), index);
    case 4:
        return packed_get<std::uint16_t>(block.data(), index);
    case 5:
        return packed_get<std::uint32_t>(block.data(), index);
    case 6:
        return packed_get<std::uint64_t>(block.data(), index);
    default: {
        const std::uint64_t bit = index << order;
        const unsigned mask = (1U << (1U << order)) - 1;
        return (std::to_integer<unsigned>(block[bit / 8]) >> (bit % 8)) & mask;
    }
    }
}

inline void refcount_set(std::span<std::byte> block, std::uint64_t index, unsigned order, std::uint64_t value)
{
    switch (order) {
    case 3:
        return packed_set(block.data(), index, static_cast<std::uint8_t>(value));
    case 4:
        return packed_set(block.data(), index, static_cast<std::uint16_t>(value));
    case 5:
        return packed_set(block.data(), index, static_cast<std::uint32_t>(value));
    case 6:
        return packed_set(block.data(), index, value);
    default: {
        const std::uint64_t bit = index << order;
        const unsigned mask = ((1U << (1U << order)) - 1) << (bit % 8);
        const unsigned old = std::to_integer<unsigned>(block[bit / 8]);
        block[bit / 8] = static_cast<std::byte>((old & ~mask) | ((static_cast<unsigned>(value) << (bit % 8)) & mask));
    }
    }
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
                const auto v = packed_get<std::uint16_t>(data, i);
                good &= v >= static_cast<std::uint16_t>(low) && v <= static_cast<std::uint16_t>(high);
            }
            if (!good)
                break;
            for (std::uint64_t i = 0; i < chunk; i++)
                packed_set(data, i, static_cast<std::uint16_t>(packed_get<std::uint16_t>(data, i) + step));
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
                zero |= packed_get<std::uint16_t>(data, i) == 0;
            if (zero)
                break;
        }
    }
    while (index < end && refcount_get(block, index, order))
        index++;
    return index;
}

} // namespace liveblk::qcow2
