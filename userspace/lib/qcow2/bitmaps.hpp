// SPDX-License-Identifier: GPL-2.0-only
// Persistent dirty bitmaps, as they lie in an image.
#pragma once

#include "qcow2/image.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace liveblk::qcow2 {

inline constexpr std::uint64_t min_granularity = 1ULL << QCOW2_MIN_GRANULARITY_BITS;
inline constexpr std::uint64_t max_granularity = 1ULL << QCOW2_MAX_GRANULARITY_BITS;

// An entry of the bitmap directory in native order.
struct Bitmap {
    std::string name;
    std::uint64_t table_offset = 0;
    std::uint32_t table_entries = 0;
    std::uint32_t flags = 0;
    std::uint8_t type = QCOW2_BITMAP_DIRTY;
    std::uint8_t granularity_bits = 0;
    std::vector<std::byte> extra; // what is not known is kept

    // 0 if it is out of all range.
    std::uint64_t granularity() const { return granularity_bits < 64 ? 1ULL << granularity_bits : 0; }
    // It records what changes.
    bool enabled() const { return flags & QCOW2_BITMAP_AUTO; }
    // It is being written to, or was not saved as it should have been.
    bool in_use() const { return flags & QCOW2_BITMAP_IN_USE; }
    // As the parser knows it.
    qcow2_bitmap entry() const;
};

struct BitmapDirectory {
    std::vector<Bitmap> bitmaps;
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0; // what it takes on disk

    std::size_t find(const std::string &name, const std::string &path) const;
};

// Those that count: an image that somebody has written to who does not know of bitmaps has none.
BitmapDirectory read_bitmaps(const Image &image);
std::vector<std::byte> serialise(const std::vector<Bitmap> &bitmaps);
// Where in the directory the entry with this index begins.
std::uint64_t entry_offset(const BitmapDirectory &directory, std::size_t index);

// The bits of a bitmap, one for each granule of a disk.
class Bits {
public:
    Bits(std::uint64_t disk_size, unsigned granularity_bits);

    std::uint64_t size() const { return ((disk_size_ - 1) >> granularity_bits_) + 1; }
    std::uint64_t disk_size() const { return disk_size_; }
    unsigned granularity_bits() const { return granularity_bits_; }
    // As on disk: the first bit is the lowest of the first byte.
    std::vector<std::byte> &bytes() { return bytes_; }
    const std::vector<std::byte> &bytes() const { return bytes_; }
    bool get(std::uint64_t bit) const { return std::to_integer<unsigned>(bytes_[bit / 8]) >> bit % 8 & 1; }
    void set(std::uint64_t bit) { bytes_[bit / 8] |= std::byte{1} << bit % 8; }
    // What these bytes of the disk lie in.
    void set_range(std::uint64_t start, std::uint64_t length);

    // Calls fn(start, length), in bytes of the disk, for all that is set, joined where it can be.
    template <typename Fn>
    void for_each_range(Fn fn) const
    {
        for (std::uint64_t at = 0; (at = next(at, true)) < size();) {
            const std::uint64_t end = next(at, false);
            const std::uint64_t start = at << granularity_bits_;
            fn(start, std::min(disk_size_, end << granularity_bits_) - start);
            at = end;
        }
    }

private:
    std::uint64_t next(std::uint64_t from, bool value) const;

    std::uint64_t disk_size_;
    unsigned granularity_bits_;
    std::vector<std::byte> bytes_;
};

// Refuses a bitmap that cannot be relied on.
Bits read_bits(const Image &image, const Bitmap &bitmap);

// Refuses one that is inconsistent, or of a kind that is not known.
void require_usable(const Image &image, const Bitmap &bitmap);

} // namespace liveblk::qcow2
