// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <bit>
#include <concepts>

namespace liveblk {

template <std::unsigned_integral T>
constexpr T swap_bytes(T value)
{
    if constexpr (sizeof(T) == 8)
        return __builtin_bswap64(value);
    else if constexpr (sizeof(T) == 4)
        return __builtin_bswap32(value);
    else if constexpr (sizeof(T) == 2)
        return __builtin_bswap16(value);
    else
        return value;
}

template <std::unsigned_integral T>
constexpr T big_endian(T value)
{
    return std::endian::native == std::endian::big ? value : swap_bytes(value);
}

} // namespace liveblk
