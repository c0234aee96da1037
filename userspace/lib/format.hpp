// SPDX-License-Identifier: GPL-2.0-only
// The QCOW2 format as it lies on disk, in the names of the specification.
#pragma once

#include "big_endian.hpp"

#include <cstdint>

namespace liveblk::qcow2 {

inline constexpr std::uint32_t magic = 0x514649fb;
inline constexpr unsigned min_cluster_bits = 9;
inline constexpr unsigned max_cluster_bits = 21;
inline constexpr std::uint32_t v2_header_length = 72;
inline constexpr std::uint32_t v3_header_length = 104;
inline constexpr std::uint64_t sector_size = 512;

// The bounds that QEMU has, so that an image opens here when it does there.
inline constexpr std::uint64_t max_l1_bytes = 32 << 20;
// QEMU has no larger bitmaps.
inline constexpr std::uint64_t max_bitmap_bytes = 512 << 20;
inline constexpr std::uint64_t max_reftable_bytes = 8 << 20;
inline constexpr std::uint32_t max_snapshots = 65536;
inline constexpr std::uint64_t max_snapshot_table_bytes = 1024ULL * max_snapshots;
inline constexpr std::uint32_t max_snapshot_extra = 1024;
inline constexpr std::uint32_t max_bitmaps = 65535;
inline constexpr std::uint64_t max_bitmap_directory_bytes = 1024ULL * max_bitmaps;

inline constexpr std::uint64_t incompat_dirty = 1 << 0;
inline constexpr std::uint64_t incompat_corrupt = 1 << 1;
inline constexpr std::uint64_t incompat_data_file = 1 << 2;
inline constexpr std::uint64_t incompat_compression = 1 << 3;
inline constexpr std::uint64_t incompat_extended_l2 = 1 << 4;
inline constexpr std::uint64_t incompat_known = 0x1f;
inline constexpr std::uint64_t compat_lazy_refcounts = 1 << 0;
inline constexpr std::uint64_t autoclear_bitmaps = 1 << 0;
inline constexpr std::uint64_t autoclear_raw_external = 1 << 1;
inline constexpr std::uint64_t autoclear_known = 0x3;

inline constexpr std::uint32_t extension_end = 0;
inline constexpr std::uint32_t extension_backing_format = 0xe2792aca;
inline constexpr std::uint32_t extension_feature_names = 0x6803f857;
inline constexpr std::uint32_t extension_bitmaps = 0x23852875;
inline constexpr std::uint32_t extension_crypto = 0x0537be77;
inline constexpr std::uint32_t extension_data_file = 0x44415441;

inline constexpr std::uint64_t flag_copied = 1ULL << 63;
inline constexpr std::uint64_t flag_compressed = 1ULL << 62;
inline constexpr std::uint64_t flag_zero = 1;
inline constexpr std::uint64_t offset_mask = 0x00fffffffffffe00;
inline constexpr std::uint64_t l1_reserved = 0x7f000000000001ff;
inline constexpr std::uint64_t l2_reserved = 0x3f000000000001fe;
inline constexpr std::uint64_t reftable_reserved = 0x1ff;

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

struct RawCryptoExtension {
    Be64 offset;
    Be64 length;
};
static_assert(sizeof(RawCryptoExtension) == 16);

} // namespace liveblk::qcow2
