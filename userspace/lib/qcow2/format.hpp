// SPDX-License-Identifier: GPL-2.0-only
// The QCOW2 format as it lies on disk. The parser is that of dm-qcow2, compiled into this library; here are its numbers
// with types.
#pragma once

extern "C" {
#include <format/format.h>
}

#include <cstdint>

namespace liveblk::qcow2 {

inline constexpr std::uint32_t magic = QCOW2_MAGIC;
inline constexpr unsigned min_cluster_bits = QCOW2_MIN_CLUSTER_BITS;
inline constexpr unsigned max_cluster_bits = QCOW2_MAX_CLUSTER_BITS;
inline constexpr std::uint32_t v2_header_length = QCOW2_V2_HEADER_LENGTH;
inline constexpr std::uint32_t v3_header_length = QCOW2_V3_HEADER_LENGTH;
inline constexpr std::uint64_t sector_size = QCOW2_SECTOR_SIZE;

// The bounds that QEMU has, so that an image opens here when it does there.
inline constexpr std::uint64_t max_size = QCOW2_MAX_SIZE;
inline constexpr std::uint64_t max_l1_bytes = QCOW2_MAX_L1_BYTES;
inline constexpr std::uint64_t max_bitmap_bytes = QCOW2_MAX_BITMAP_BYTES;
inline constexpr std::uint64_t max_reftable_bytes = QCOW2_MAX_REFTABLE_BYTES;
inline constexpr std::uint32_t max_snapshots = QCOW2_MAX_SNAPSHOTS;
inline constexpr std::uint64_t max_snapshot_table_bytes = QCOW2_MAX_SNAPSHOT_TABLE;
inline constexpr std::uint32_t max_snapshot_extra = QCOW2_MAX_SNAPSHOT_EXTRA;
inline constexpr std::uint32_t max_bitmaps = QCOW2_MAX_BITMAPS;
inline constexpr std::uint64_t max_bitmap_directory_bytes = QCOW2_MAX_BITMAP_DIRECTORY;

inline constexpr std::uint64_t incompat_dirty = QCOW2_INCOMPAT_DIRTY;
inline constexpr std::uint64_t incompat_corrupt = QCOW2_INCOMPAT_CORRUPT;
inline constexpr std::uint64_t incompat_data_file = QCOW2_INCOMPAT_DATA_FILE;
inline constexpr std::uint64_t incompat_compression = QCOW2_INCOMPAT_COMPRESSION;
inline constexpr std::uint64_t incompat_extended_l2 = QCOW2_INCOMPAT_EXTL2;
inline constexpr std::uint64_t incompat_known = QCOW2_INCOMPAT_KNOWN;
inline constexpr std::uint64_t compat_lazy_refcounts = QCOW2_COMPAT_LAZY_REFCOUNTS;
inline constexpr std::uint64_t autoclear_bitmaps = QCOW2_AUTOCLEAR_BITMAPS;
inline constexpr std::uint64_t autoclear_raw_external = QCOW2_AUTOCLEAR_RAW_EXTERNAL;
inline constexpr std::uint64_t autoclear_known = QCOW2_AUTOCLEAR_KNOWN;

inline constexpr std::uint32_t extension_backing_format = QCOW2_EXT_BACKING_FORMAT;
inline constexpr std::uint32_t extension_feature_names = QCOW2_EXT_FEATURE_TABLE;
inline constexpr std::uint32_t extension_bitmaps = QCOW2_EXT_BITMAPS;
inline constexpr std::uint32_t extension_crypto = QCOW2_EXT_CRYPTO;
inline constexpr std::uint32_t extension_data_file = QCOW2_EXT_DATA_FILE;

inline constexpr std::uint64_t flag_copied = QCOW2_OFLAG_COPIED;
inline constexpr std::uint64_t flag_compressed = QCOW2_OFLAG_COMPRESSED;
inline constexpr std::uint64_t offset_mask = QCOW2_OFFSET_MASK;
inline constexpr std::uint64_t l1_reserved = QCOW2_L1E_RESERVED;
inline constexpr std::uint64_t reftable_reserved = QCOW2_REFTABLE_RESERVED;

} // namespace liveblk::qcow2
