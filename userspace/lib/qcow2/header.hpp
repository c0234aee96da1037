// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "qcow2/format.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace liveblk::qcow2 {

class ImageFile;

struct Extension {
    std::uint32_t type = 0;
    std::vector<std::byte> data;
};

enum class FeatureKind : std::uint8_t { incompatible, compatible, autoclear };

// The header in native order; every field has been bounded but for what faults are left, and no offset has been
// followed yet.
struct Header {
    std::uint32_t version = 0;
    unsigned cluster_bits = 0;
    unsigned refcount_order = 4;
    std::uint32_t crypt_method = 0;
    std::uint32_t header_length = v2_header_length;
    std::uint8_t compression_type = 0;
    std::uint64_t size = 0;
    std::uint32_t l1_size = 0;
    std::uint64_t l1_offset = 0;
    std::uint64_t reftable_offset = 0;
    std::uint32_t reftable_clusters = 0;
    std::uint32_t nb_snapshots = 0;
    std::uint64_t snapshots_offset = 0;
    std::uint64_t incompatible = 0;
    std::uint64_t compatible = 0;
    std::uint64_t autoclear = 0;
    std::uint32_t faults = 0; // QCOW2_FAULT_*, of those that an image is opened with
    std::string backing_file;
    std::vector<Extension> extensions;
    std::array<std::byte, sector_size> sector{}; // as read: what is not named above is kept

    std::uint64_t cluster_size() const { return 1ULL << cluster_bits; }
    bool extended_l2() const { return incompatible & incompat_extended_l2; }
    bool has_data_file() const { return incompatible & incompat_data_file; }
    unsigned l2_entry_bits() const { return extended_l2() ? 4 : 3; }
    unsigned l2_bits() const { return cluster_bits - l2_entry_bits(); }
    std::uint64_t l2_entries() const { return 1ULL << l2_bits(); }
    std::uint64_t clusters_of(std::uint64_t bytes) const
    {
        return (bytes >> cluster_bits) + ((bytes & (cluster_size() - 1)) != 0);
    }
    bool aligned(std::uint64_t offset) const { return (offset & (cluster_size() - 1)) == 0; }
    // Entries that an L1 table must have for so many bytes of disk.
    std::uint64_t l1_entries_for(std::uint64_t bytes) const
    {
        const unsigned bits = cluster_bits + l2_bits();
        return (bytes >> bits) + ((bytes & ((1ULL << bits) - 1)) != 0);
    }

    // As the parser knows it.
    qcow2_geometry geometry() const;
    const Extension *find(std::uint32_t type) const;
    // From the image's own table of names, else from the specification; "unknown" if neither has it.
    std::string feature_name(FeatureKind kind, unsigned bit) const;
    std::optional<std::string> text_extension(std::uint32_t type) const;
};

// Reads and bounds the header and its extensions.
Header read_header(const ImageFile &file);

// The first sector of the image with the fields that an edit may change. It is written at one go.
std::array<std::byte, sector_size> serialise(const Header &header);

// Text of an image as it may be shown: what is not printable is replaced.
std::string printable(std::string_view text);

} // namespace liveblk::qcow2
