// SPDX-License-Identifier: GPL-2.0-only
// Structures of an image as they lie on disk, for tests that make images by hand: what reads them is under test.
#pragma once

#include "qcow2/big_endian.hpp"
#include "qcow2/format.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <type_traits>

namespace liveblk {

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

namespace liveblk::qcow2 {

struct RawHeader {
    Be32 magic;
    Be32 version;
    Be64 backing_file_offset;
    Be32 backing_file_size;
    Be32 cluster_bits;
    Be64 size;
    Be32 crypt_method;
    Be32 l1_size;
    Be64 l1_table_offset;
    Be64 refcount_table_offset;
    Be32 refcount_table_clusters;
    Be32 nb_snapshots;
    Be64 snapshots_offset;
    // From version 3 on.
    Be64 incompatible_features;
    Be64 compatible_features;
    Be64 autoclear_features;
    Be32 refcount_order;
    Be32 header_length;
};
static_assert(sizeof(RawHeader) == v3_header_length);

struct RawSnapshot {
    Be64 l1_table_offset;
    Be32 l1_size;
    Be16 id_str_size;
    Be16 name_size;
    Be32 date_sec;
    Be32 date_nsec;
    Be64 vm_clock_nsec;
    Be32 vm_state_size;
    Be32 extra_data_size;
};
static_assert(sizeof(RawSnapshot) == 40);

struct RawBitmapsExtension {
    Be32 nb_bitmaps;
    Be32 reserved;
    Be64 bitmap_directory_size;
    Be64 bitmap_directory_offset;
};
static_assert(sizeof(RawBitmapsExtension) == 24);

struct RawBitmap {
    Be64 bitmap_table_offset;
    Be32 bitmap_table_size;
    Be32 flags;
    std::uint8_t type;
    std::uint8_t granularity_bits;
    Be16 name_size;
    Be32 extra_data_size;
};
static_assert(sizeof(RawBitmap) == 24);

} // namespace liveblk::qcow2
