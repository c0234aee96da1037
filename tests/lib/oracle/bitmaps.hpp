// SPDX-License-Identifier: GPL-2.0-only
// The persistent dirty bitmaps of an image.
#pragma once

#include "oracle/reader.hpp"

#include <optional>

namespace liveblk::oracle {

class Bitmap {
public:
    // From an entry of the bitmap directory.
    Bitmap(std::span<const std::byte> image, std::uint64_t cluster_size, std::uint64_t entry);

    const std::string &name() const { return name_; }
    // What it says is not to be believed: it was being written to.
    bool in_use() const { return flags_ & format::bitmap_in_use; }
    // It records what changes.
    bool enabled() const { return flags_ & format::bitmap_auto; }
    std::uint64_t granularity() const { return std::uint64_t{1} << granularity_bits_; }
    // Whether the granule with this byte of the disk is marked.
    bool marked(std::uint64_t offset) const;
    // Where the next entry begins.
    std::uint64_t end() const { return end_; }

private:
    std::span<const std::byte> image_;
    std::uint64_t cluster_size_;
    std::string name_;
    std::uint32_t flags_;
    unsigned granularity_bits_;
    Table table_;
    std::uint64_t end_;
};

// Those that the image says are right; nothing, if it does not say so of any.
std::vector<Bitmap> read_bitmaps(std::span<const std::byte> image, const Reader &reader);

} // namespace liveblk::oracle
