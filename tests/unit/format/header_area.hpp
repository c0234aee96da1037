// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "format.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace liveblk::unit {

// A field of the header: where the specification puts it, and its width in bytes.
struct Field {
    std::size_t offset;
    std::size_t width;
};

namespace field {
constexpr Field magic{0, 4};
constexpr Field version{4, 4};
constexpr Field backing_file_offset{8, 8};
constexpr Field backing_file_size{16, 4};
constexpr Field cluster_bits{20, 4};
constexpr Field size{24, 8};
constexpr Field crypt_method{32, 4};
constexpr Field l1_size{36, 4};
constexpr Field l1_table_offset{40, 8};
constexpr Field refcount_table_offset{48, 8};
constexpr Field refcount_table_clusters{56, 4};
constexpr Field nb_snapshots{60, 4};
constexpr Field snapshots_offset{64, 8};
constexpr Field incompatible_features{72, 8};
constexpr Field compatible_features{80, 8};
constexpr Field autoclear_features{88, 8};
constexpr Field refcount_order{96, 4};
constexpr Field header_length{100, 4};
constexpr Field compression_type{104, 1};
} // namespace field

constexpr std::size_t v2_length = 72;
constexpr std::size_t v3_length = 104;

// Memory of an exact size on the heap, so that a sanitizer sees the first byte read past it.
class ExactBuffer {
public:
    explicit ExactBuffer(std::span<const std::uint8_t> bytes);
    const void *data() const { return data_.get(); }
    std::size_t size() const { return size_; }

private:
    std::unique_ptr<std::uint8_t[]> data_;
    std::size_t size_;
};

struct Parsed {
    int result;
    qcow2_geometry geometry;
    std::string why;
};

// The beginning of an image, as bytes. A new one is valid: the refcount table lies in the second cluster, the L1
// table in the third, and L1 maps exactly the virtual size of 4 L2 tables.
class HeaderArea {
public:
    explicit HeaderArea(std::uint32_t version, std::uint32_t cluster_bits = 16);

    std::uint64_t get(Field f) const;
    HeaderArea &set(Field f, std::uint64_t value);
    HeaderArea &put(std::size_t offset, std::size_t width, std::uint64_t value);

    // Appends a header extension after those added so far.
    HeaderArea &extension(std::uint32_t type, std::span<const std::uint8_t> data);
    HeaderArea &extension(std::uint32_t type, std::size_t length);

    std::size_t extensions_begin() const;
    std::span<const std::uint8_t> bytes() const { return bytes_; }
    std::uint64_t cluster_size() const { return std::uint64_t{1} << cluster_bits_; }

    // What qcow2_header_parse() says of the first @length bytes, or of all.
    Parsed parse(std::size_t length) const;
    Parsed parse() const { return parse(bytes_.size()); }

private:
    std::uint32_t cluster_bits_;
    std::vector<std::uint8_t> bytes_;
    std::size_t next_extension_ = 0;
};

// What qcow2_header_supported() says of an image that parses.
struct Verdict {
    int result;
    std::string why;
};
Verdict supported(const HeaderArea &area, bool read_only);

// A row of a feature name table.
std::vector<std::uint8_t> feature_row(unsigned type, unsigned bit, std::string_view name);

} // namespace liveblk::unit
