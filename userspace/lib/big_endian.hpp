// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <type_traits>

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

// An integer as it lies on disk: big-endian, unaligned, no arithmetic by accident.
template <std::unsigned_integral T>
class BigEndian {
public:
    BigEndian() = default;
    explicit BigEndian(T value) { *this = value; }
    BigEndian &operator=(T value)
    {
        value = big_endian(value);
        std::memcpy(bytes_, &value, sizeof(value));
        return *this;
    }
    T value() const
    {
        T value;
        std::memcpy(&value, bytes_, sizeof(value));
        return big_endian(value);
    }

private:
    std::uint8_t bytes_[sizeof(T)] = {};
};

using Be16 = BigEndian<std::uint16_t>;
using Be32 = BigEndian<std::uint32_t>;
using Be64 = BigEndian<std::uint64_t>;

// Copies a T out of raw bytes; the range is checked.
template <typename T>
requires std::is_trivially_copyable_v<T> T load(std::span<const std::byte> bytes, std::uint64_t offset)
{
    if (offset > bytes.size() || bytes.size() - offset < sizeof(T))
        throw std::out_of_range("an on-disk structure ends past its bytes");
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof(T));
    return value;
}

// Copies a T into raw bytes; the range is checked.
template <typename T>
requires std::is_trivially_copyable_v<T>
void store(std::span<std::byte> bytes, std::uint64_t offset, const T &value)
{
    if (offset > bytes.size() || bytes.size() - offset < sizeof(T))
        throw std::out_of_range("an on-disk structure ends past its bytes");
    std::memcpy(bytes.data() + offset, &value, sizeof(T));
}

} // namespace liveblk
