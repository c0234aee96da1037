// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <type_traits>

namespace liveblk::crash {

// An integer as dm-log-writes puts it on disk: little-endian, no alignment, no arithmetic by accident.
template <std::unsigned_integral T>
class OnDisk {
public:
    OnDisk() = default;
    explicit OnDisk(T value)
    {
        for (std::size_t i = 0; i < sizeof(T); i++)
            bytes_[i] = static_cast<std::uint8_t>(value >> (8 * i));
    }

    T value() const
    {
        T value = 0;
        for (std::size_t i = 0; i < sizeof(T); i++)
            value = static_cast<T>(value | static_cast<T>(T{bytes_[i]} << (8 * i)));
        return value;
    }

private:
    std::array<std::uint8_t, sizeof(T)> bytes_{};
};

using Le32 = OnDisk<std::uint32_t>;
using Le64 = OnDisk<std::uint64_t>;

// Copies a T out of raw bytes; the range is checked.
template <typename T>
requires std::is_trivially_copyable_v<T> T load(std::span<const std::byte> bytes, std::uint64_t offset)
{
    if (offset > bytes.size() || bytes.size() - offset < sizeof(T))
        throw std::out_of_range("read of an on-disk structure past the end of its bytes");
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof(T));
    return value;
}

} // namespace liveblk::crash
