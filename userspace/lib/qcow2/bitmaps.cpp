// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/bitmaps.hpp"

#include "base/error.hpp"

#include <array>
#include <span>

namespace liveblk::qcow2 {
namespace {

// What the header says of the directory; nothing has been followed yet.
qcow2_bitmaps extension_of(const Image &image)
{
    const Header &h = image.header();
    const Extension *e = h.find(extension_bitmaps);
    qcow2_bitmaps bitmaps = {};
    if (!(h.autoclear & autoclear_bitmaps) || !e)
        return bitmaps;
    if (qcow2_bitmaps_parse(e->data.data(), e->data.size(), &bitmaps))
        fail("read the bitmaps of '{}': their header extension is too short", image.path());
    if (bitmaps.nb_bitmaps > max_bitmaps || bitmaps.directory_size > max_bitmap_directory_bytes)
        fail("read the bitmaps of '{}': their directory is larger than the format allows", image.path());
    if (bitmaps.nb_bitmaps && !image.holds(bitmaps.directory_offset, bitmaps.directory_size))
        fail("read the bitmaps of '{}': their directory at {:#x} is outside of the image", image.path(),
             bitmaps.directory_offset);
    return bitmaps;
}

Bitmap from_entry(std::span<const std::byte> bytes, const qcow2_bitmap &entry)
{
    const auto extra = bytes.subspan(QCOW2_BITMAP_FIXED, entry.extra_size);
    const auto name = bytes.subspan(QCOW2_BITMAP_FIXED + entry.extra_size, entry.name_size);
    return {.name = {reinterpret_cast<const char *>(name.data()), name.size()},
            .table_offset = entry.table_offset,
            .table_entries = entry.table_size,
            .flags = entry.flags,
            .type = entry.type,
            .granularity_bits = entry.granularity_bits,
            .extra = {extra.begin(), extra.end()}};
}

std::uint64_t entry_bytes(const Bitmap &b)
{
    return (QCOW2_BITMAP_FIXED + b.extra.size() + b.name.size() + 7) / 8 * 8;
}

} // namespace

qcow2_bitmap Bitmap::entry() const
{
    return {.table_offset = table_offset,
            .table_size = table_entries,
            .flags = flags,
            .type = type,
            .granularity_bits = granularity_bits,
            .name_size = static_cast<std::uint16_t>(name.size()),
            .extra_size = static_cast<std::uint32_t>(extra.size())};
}

std::size_t BitmapDirectory::find(const std::string &name, const std::string &path) const
{
    const auto it = std::find_if(bitmaps.begin(), bitmaps.end(), [&](const Bitmap &b) { return b.name == name; });
    if (it == bitmaps.end())
        fail("find the bitmap '{}' of '{}': there is none with that name", printable(name), path);
    return static_cast<std::size_t>(it - bitmaps.begin());
}

BitmapDirectory read_bitmaps(const Image &image)
{
    const qcow2_bitmaps where = extension_of(image);
    BitmapDirectory directory{.bitmaps = {}, .offset = where.directory_offset, .bytes = where.directory_size};
    if (!where.nb_bitmaps)
        return {};
    std::vector<std::byte> bytes(where.directory_size);
    image.file().read(bytes, where.directory_offset);
    std::uint64_t at = 0;
    for (std::uint32_t i = 0; i < where.nb_bitmaps; i++) {
        qcow2_bitmap entry;
        const auto rest = std::span(bytes).subspan(std::min<std::uint64_t>(at, bytes.size()));
        const auto taken = qcow2_bitmap_parse(rest.data(), rest.size(), &entry);
        if (taken < 0)
            fail("read the bitmaps of '{}': entry {} ends past the end of the directory", image.path(), i);
        directory.bitmaps.push_back(from_entry(rest, entry));
        at += static_cast<std::uint64_t>(taken);
    }
    return directory;
}

std::vector<std::byte> serialise(const std::vector<Bitmap> &bitmaps)
{
    std::vector<std::byte> out;
    for (const Bitmap &b : bitmaps) {
        const qcow2_bitmap entry = b.entry();
        std::array<std::byte, QCOW2_BITMAP_FIXED> fixed;
        qcow2_bitmap_store(fixed.data(), &entry);
        const auto name = std::as_bytes(std::span(b.name));
        out.insert(out.end(), fixed.begin(), fixed.end());
        out.insert(out.end(), b.extra.begin(), b.extra.end());
        out.insert(out.end(), name.begin(), name.end());
        out.resize((out.size() + 7) / 8 * 8);
    }
    return out;
}

std::uint64_t entry_offset(const BitmapDirectory &directory, std::size_t index)
{
    std::uint64_t offset = directory.offset;
    for (const Bitmap &b : std::span(directory.bitmaps).first(index))
        offset += entry_bytes(b);
    return offset;
}

Bits::Bits(std::uint64_t disk_size, unsigned granularity_bits)
    : disk_size_(disk_size), granularity_bits_(granularity_bits), bytes_((size() + 7) / 8)
{
}

void Bits::set_range(std::uint64_t start, std::uint64_t length)
{
    const std::uint64_t last = (start + length - 1) >> granularity_bits_;
    for (std::uint64_t bit = start >> granularity_bits_; bit <= last; bit++)
        set(bit);
}

std::uint64_t Bits::next(std::uint64_t from, bool value) const
{
    const std::byte none = value ? std::byte{0} : std::byte{0xff};
    const std::uint64_t end = size();
    while (from < end && get(from) != value) {
        if (from % 8 == 0 && bytes_[from / 8] == none)
            from += 8;
        else
            from++;
    }
    return std::min(from, end);
}

void require_usable(const Image &image, const Bitmap &bitmap)
{
    const qcow2_geometry g = image.header().geometry();
    const qcow2_bitmap entry = bitmap.entry();
    const std::string name = printable(bitmap.name);
    if (bitmap.in_use())
        fail("use the bitmap '{}' of '{}': it was not saved as it should have been, and is inconsistent; it can only "
             "be removed",
             name, image.path());
    if (const char *fault = qcow2_bitmap_fault(&g, &entry))
        fail("use the bitmap '{}' of '{}': it {}", name, image.path(), fault);
}

Bits read_bits(const Image &image, const Bitmap &bitmap)
{
    require_usable(image, bitmap);
    const std::uint64_t cluster = image.header().cluster_size();
    Bits bits(image.header().size, bitmap.granularity_bits);
    const std::uint64_t entries = (bits.bytes().size() + cluster - 1) / cluster;
    const auto refuse = [&](const char *what) {
        fail("read the bitmap '{}' of '{}': {}", printable(bitmap.name), image.path(), what);
    };
    if (!image.holds(bitmap.table_offset, entries * 8))
        refuse("its table is outside of the image");
    for_each_entry(image.file(), bitmap.table_offset, entries, [&](std::uint64_t i, std::uint64_t entry) {
        const auto part = std::span(bits.bytes()).subspan(i * cluster);
        const auto bytes = part.first(std::min<std::uint64_t>(cluster, part.size()));
        const std::uint64_t host = entry & offset_mask;
        if (!qcow2_bitmap_entry_valid(entry) || (host && !image.holds(host, bytes.size())))
            refuse("an entry of its table is not valid");
        if (host)
            image.file().read(bytes, host);
        else if (entry & QCOW2_BITMAP_ALL_ONES)
            std::fill(bytes.begin(), bytes.end(), std::byte{0xff});
    });
    return bits;
}

} // namespace liveblk::qcow2
