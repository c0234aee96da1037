// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/bitmap_edits.hpp"

#include "base/error.hpp"
#include "qcow2/edit.hpp"
#include "qcow2/header_area.hpp"
#include "qcow2/repair.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <span>
#include <utility>

namespace liveblk::qcow2 {
namespace {

constexpr std::size_t max_name = 1023; // as QEMU has it

std::uint64_t table_entries(const Header &h, unsigned granularity_bits)
{
    const std::uint64_t bits = ((h.size - 1) >> granularity_bits) + 1;
    return h.clusters_of((bits + 7) / 8);
}

// Bitmaps as they are to become.
class BitmapEdit {
public:
    explicit BitmapEdit(Image &image) : image_(image), old_(read_bitmaps(image)), edit_(image, from_image, metadata) {}

    const BitmapDirectory &old() const { return old_; }

    void add(Bitmap bitmap) { bitmaps().push_back(std::move(bitmap)); }
    Bitmap &change(std::size_t index) { return bitmaps()[index]; }
    void remove(std::size_t index)
    {
        give_up(old_.bitmaps[index]);
        bitmaps().erase(bitmaps().begin() + static_cast<std::ptrdiff_t>(index));
    }
    void write_bits(Bitmap &bitmap, const Bits *bits);
    void give_up(const Bitmap &bitmap);
    void commit();

private:
    struct Structure {
        std::uint64_t offset;
        std::uint64_t bytes;
    };
    static constexpr auto from_image = Refcounts::Start::from_image;
    static constexpr auto metadata = Touches::metadata;

    std::vector<Bitmap> &bitmaps()
    {
        if (!begun_)
            new_ = old_.bitmaps;
        begun_ = true;
        return new_;
    }

    Image &image_;
    BitmapDirectory old_;
    std::vector<Bitmap> new_;
    bool begun_ = false;
    Edit edit_;
    std::vector<Structure> gone_;
};

// To new clusters; none for what is all the same.
void BitmapEdit::write_bits(Bitmap &bitmap, const Bits *bits)
{
    const Header &h = image_.header();
    std::vector<std::uint64_t> table(table_entries(h, bitmap.granularity_bits));
    for (std::size_t i = 0; bits && i < table.size(); i++) {
        const auto rest = std::span(bits->bytes()).subspan(i << h.cluster_bits);
        const auto part = rest.first(std::min<std::uint64_t>(h.cluster_size(), rest.size()));
        const auto all = [&](std::byte value) {
            return std::all_of(part.begin(), part.end(), [value](std::byte b) { return b == value; });
        };
        if (all(std::byte{0xff}))
            table[i] = QCOW2_BITMAP_ALL_ONES;
        else if (!all(std::byte{0}))
            table[i] = edit_.write_new(part);
    }
    bitmap.table_offset = edit_.write_table(table);
    bitmap.table_entries = static_cast<std::uint32_t>(table.size());
}

// Of one that is damaged only what lies in the image: check finds the rest.
void BitmapEdit::give_up(const Bitmap &bitmap)
{
    if (!bitmap.table_entries || !image_.holds(bitmap.table_offset, 8ULL * bitmap.table_entries))
        return;
    gone_.push_back({bitmap.table_offset, 8ULL * bitmap.table_entries});
    for_each_entry(image_.file(), bitmap.table_offset, bitmap.table_entries, [&](std::uint64_t, std::uint64_t entry) {
        const std::uint64_t host = entry & offset_mask;
        if (host && qcow2_bitmap_entry_valid(entry) && image_.holds(host, 1))
            gone_.push_back({host, 1});
    });
}

void BitmapEdit::commit()
{
    const std::vector<std::byte> bytes = serialise(bitmaps());
    if (bitmaps().size() > max_bitmaps || bytes.size() > max_bitmap_directory_bytes)
        fail("write the bitmaps of '{}': {} are more than an image can have", image_.path(), bitmaps().size());
    const std::uint64_t offset = edit_.write_new(bytes);
    edit_.commit();
    image_.reload();
    if (bytes.empty())
        drop_bitmap_extension(image_);
    else
        set_bitmap_extension(image_, {.nb_bitmaps = static_cast<std::uint32_t>(bitmaps().size()),
                                      .directory_size = bytes.size(),
                                      .directory_offset = offset});
    Edit rest(image_, from_image, metadata);
    rest.free_structure(old_.offset, old_.bytes);
    for (const Structure &s : gone_)
        rest.free_structure(s.offset, s.bytes);
    rest.commit();
    rest.give_back();
    image_.reload();
}

template <typename Function>
void edit_bitmaps(Image &image, Progress &progress, Function function)
{
    edit_consistently(
        image, progress,
        [&] {
            BitmapEdit edit(image);
            function(edit);
            edit.commit();
        },
        Touches::metadata);
}

} // namespace

std::uint64_t default_granularity(const Image &image)
{
    return std::clamp<std::uint64_t>(image.header().cluster_size(), 4096, 65536);
}

void check_new_bitmap(const Image &image, const NewBitmap &bitmap)
{
    const Header &h = image.header();
    if (h.version < 3)
        not_supported("add a bitmap to '{}': version {} has none", image.path(), h.version);
    if (!h.size)
        fail("add a bitmap to '{}': its size is 0", image.path());
    if (bitmap.name.empty() || bitmap.name.size() > max_name)
        fail("add a bitmap to '{}': a name has 1 to {} bytes, not {}", image.path(), max_name, bitmap.name.size());
    if (!std::has_single_bit(bitmap.granularity) || bitmap.granularity < min_granularity ||
        bitmap.granularity > max_granularity)
        fail("add the bitmap '{}' to '{}': a granularity is a power of two from {} to {}, not {}",
             printable(bitmap.name), image.path(), min_granularity, max_granularity, bitmap.granularity);
    const auto bits = static_cast<unsigned>(std::countr_zero(bitmap.granularity));
    if (table_entries(h, bits) * h.cluster_size() > max_bitmap_bytes)
        fail("add the bitmap '{}' to '{}': with a granularity of {} it would be larger than {} MiB",
             printable(bitmap.name), image.path(), bitmap.granularity, max_bitmap_bytes >> 20);
    for (const Bitmap &b : read_bitmaps(image).bitmaps)
        if (b.name == bitmap.name)
            fail("add the bitmap '{}' to '{}': there is one of that name", printable(bitmap.name), image.path());
}

void add_bitmap(Image &image, const NewBitmap &bitmap, Progress &progress)
{
    check_new_bitmap(image, bitmap);
    edit_bitmaps(image, progress, [&](BitmapEdit &edit) {
        Bitmap b;
        b.name = bitmap.name;
        b.granularity_bits = static_cast<std::uint8_t>(std::countr_zero(bitmap.granularity));
        b.flags = bitmap.enabled ? QCOW2_BITMAP_AUTO : 0;
        edit.write_bits(b, nullptr);
        edit.add(std::move(b));
    });
}

void remove_bitmap(Image &image, const std::string &name, Progress &progress)
{
    const std::size_t index = read_bitmaps(image).find(name, image.path());
    edit_bitmaps(image, progress, [&](BitmapEdit &edit) { edit.remove(index); });
}

void clear_bitmap(Image &image, const std::string &name, Progress &progress)
{
    const BitmapDirectory directory = read_bitmaps(image);
    const std::size_t index = directory.find(name, image.path());
    require_usable(image, directory.bitmaps[index]);
    edit_bitmaps(image, progress, [&](BitmapEdit &edit) {
        edit.give_up(directory.bitmaps[index]);
        edit.write_bits(edit.change(index), nullptr);
    });
}

// One write of a sector.
void enable_bitmap(Image &image, const std::string &name, bool enable, Progress &progress)
{
    const std::size_t index = read_bitmaps(image).find(name, image.path());
    edit_consistently(
        image, progress,
        [&] {
            const BitmapDirectory directory = read_bitmaps(image);
            Bitmap changed = directory.bitmaps[index];
            require_usable(image, changed);
            const std::uint64_t offset = entry_offset(directory, index);
            const std::uint64_t at = offset / sector_size * sector_size;
            std::array<std::byte, sector_size> sector;
            image.file().read(sector, at);
            changed.flags = enable ? changed.flags | QCOW2_BITMAP_AUTO : changed.flags & ~QCOW2_BITMAP_AUTO;
            qcow2_bitmap_store_flags(sector.data() + (offset - at), changed.flags);
            image.file().write(sector, at);
            image.file().barrier();
        },
        Touches::metadata);
}

void merge_into_bitmap(Image &image, const std::string &name, const Bits &source, Progress &progress)
{
    const BitmapDirectory directory = read_bitmaps(image);
    const std::size_t index = directory.find(name, image.path());
    Bits bits = read_bits(image, directory.bitmaps[index]);
    source.for_each_range([&](std::uint64_t start, std::uint64_t length) {
        progress.advance(0);
        bits.set_range(start, length);
    });
    edit_bitmaps(image, progress, [&](BitmapEdit &edit) {
        edit.give_up(directory.bitmaps[index]);
        edit.write_bits(edit.change(index), &bits);
    });
}

} // namespace liveblk::qcow2
