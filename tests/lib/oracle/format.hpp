// SPDX-License-Identifier: GPL-2.0-only
// The QCOW2 format as far as a writer and a reader of small images need it. Written from the
// specification and on its own: it shares nothing with the product that it is used to test.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

namespace liveblk::oracle::format {

constexpr std::uint32_t magic = 0x514649fb;

// Where the fields of the header are.
enum HeaderField : std::uint64_t {
    h_magic = 0,
    h_version = 4,
    h_backing_offset = 8,
    h_backing_size = 16,
    h_cluster_bits = 20,
    h_size = 24,
    h_crypt_method = 32,
    h_l1_size = 36,
    h_l1_offset = 40,
    h_reftable_offset = 48,
    h_reftable_clusters = 56,
    h_nb_snapshots = 60,
    h_snapshots_offset = 64,
    h_v2_end = 72,
    h_incompatible = 72,
    h_compatible = 80,
    h_autoclear = 88,
    h_refcount_order = 96,
    h_header_length = 100,
    h_v3_end = 104,
    h_compression_type = 104,
};

enum Incompatible : std::uint64_t {
    incompat_dirty = 1,
    incompat_corrupt = 2,
    incompat_data_file = 4,
    incompat_compression = 8,
    incompat_extended_l2 = 16,
};

constexpr std::uint64_t compat_lazy_refcounts = 1;
constexpr std::uint64_t autoclear_bitmaps = 1;

enum ExtensionType : std::uint32_t {
    ext_end = 0,
    ext_backing_format = 0xe2792aca,
    ext_feature_names = 0x6803f857,
    ext_bitmaps = 0x23852875,
    ext_crypto = 0x0537be77,
    ext_data_file = 0x44415441,
};

// Where the fields of a snapshot table entry are.
enum SnapshotField : std::uint64_t {
    s_l1_offset = 0,
    s_l1_size = 8,
    s_id_size = 12,
    s_name_size = 14,
    s_vm_state_size = 32,
    s_extra_size = 36,
    s_extra = 40,
};

// Where the fields of the bitmaps extension, and of an entry of the bitmap directory are.
enum BitmapsField : std::uint64_t { x_nb_bitmaps = 0, x_directory_size = 8, x_directory_offset = 16, x_end = 24 };
enum BitmapField : std::uint64_t {
    b_table_offset = 0,
    b_table_size = 8,
    b_flags = 12,
    b_type = 16,
    b_granularity_bits = 17,
    b_name_size = 18,
    b_extra_size = 20,
    b_name = 24,
};
constexpr std::uint32_t bitmap_in_use = 1;
constexpr std::uint32_t bitmap_auto = 2;

constexpr std::uint64_t copied = 1ULL << 63;
constexpr std::uint64_t compressed = 1ULL << 62;
constexpr std::uint64_t zero_flag = 1;
constexpr std::uint64_t offset_mask = 0x00fffffffffffe00ULL;
constexpr std::uint64_t entry_size = 8;
// An extended L2 entry has a second word, with two bits for each subcluster.
constexpr std::uint64_t extended_entry_size = 16;
constexpr std::uint64_t subclusters = 32;
constexpr std::uint64_t all_data = 0xffffffffULL;
constexpr std::uint64_t all_zeros = all_data << subclusters;

// Big-endian access with a check of the bounds: a case that misses its place must not pass.
inline void check_bounds(const char *what, std::uint64_t length, std::uint64_t size, std::uint64_t at)
{
    if (at > size || size - at < length)
        throw std::out_of_range(what + std::string(" ") + std::to_string(length) + " bytes at " + std::to_string(at) +
                                ": beyond the image");
}

template <typename T>
T get(std::span<const std::byte> bytes, std::uint64_t at)
{
    check_bounds("get", sizeof(T), bytes.size(), at);
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof(T); i++)
        value = value << 8 | std::to_integer<std::uint64_t>(bytes[at + i]);
    return static_cast<T>(value);
}

template <typename T>
T get(std::span<const std::uint8_t> bytes, std::uint64_t at)
{
    return get<T>(std::as_bytes(bytes), at);
}

template <typename T>
void put(std::span<std::uint8_t> bytes, std::uint64_t at, std::uint64_t value)
{
    check_bounds("put", sizeof(T), bytes.size(), at);
    for (std::size_t i = 0; i < sizeof(T); i++)
        bytes[at + i] = static_cast<std::uint8_t>(value >> 8 * (sizeof(T) - 1 - i));
}

// Refcounts narrower than a byte fill each byte from its lowest bits.
std::uint64_t get_refcount(std::span<const std::byte> bytes, std::uint64_t block, unsigned order, std::uint64_t index);
inline std::uint64_t get_refcount(std::span<const std::uint8_t> bytes, std::uint64_t block, unsigned order,
                                  std::uint64_t index)
{
    return get_refcount(std::as_bytes(bytes), block, order, index);
}
void put_refcount(std::span<std::uint8_t> bytes, std::uint64_t block, unsigned order, std::uint64_t index,
                  std::uint64_t value);

} // namespace liveblk::oracle::format
