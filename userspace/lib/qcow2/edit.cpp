// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/edit.hpp"

#include "base/error.hpp"
#include "qcow2/big_endian.hpp"
#include "qcow2/metadata_places.hpp"

#include <algorithm>

namespace liveblk::qcow2 {

void require_editable(const Image &image, Touches touches)
{
    const Header &h = image.header();
    for (unsigned bit = 0; bit < 64; bit++)
        if (h.incompatible & ~incompat_known & (1ULL << bit))
            not_supported("edit '{}': incompatible feature {} ({}) is not supported", image.path(), bit,
                          h.feature_name(FeatureKind::incompatible, bit));
    if (h.has_data_file() && touches == Touches::everything)
        not_supported("edit '{}': images with an external data file are not supported", image.path());
    if (h.crypt_method)
        not_supported("edit '{}': encrypted images are not supported", image.path());
}

Edit::Edit(Image &image, Refcounts::Start start, Touches touches)
    : image_(image),
      header_(image.header()),
      refcounts_(image, start),
      writer_(image.file()),
      old_size_(image.file().size())
{
    require_editable(image, touches);
    // Whoever does not know a feature of this kind has to clear its bit before it writes.
    header_.autoclear &= autoclear_known;
    // To count anew is for images of which not even the metadata may be in place.
    auto places = start == Refcounts::Start::from_image ? metadata_places(image) : std::nullopt;
    if (!places)
        return;
    places_known_ = true;
    refcounts_.reach(Reach::holes, std::move(*places));
}

void Edit::all_in_use_is_counted()
{
    const Header &h = image_.header();
    // Bitmaps are left as they are, and nobody has looked at their refcounts.
    const bool bitmaps = (h.autoclear & autoclear_bitmaps) && h.find(extension_bitmaps);
    if (places_known_ && !bitmaps)
        refcounts_.reach(Reach::everywhere);
}

Edit::~Edit()
{
    if (committed_)
        return;
    try {
        for (const Run &run : refcounts_.reused())
            image_.file().punch(run.first << header_.cluster_bits, run.count << header_.cluster_bits);
        if (image_.file().size() > old_size_)
            image_.file().truncate(old_size_);
    } catch (const Error &) {
        // The image is what it was; its file is longer.
    }
}

std::uint64_t Edit::write_table(std::span<const std::uint64_t> entries)
{
    std::vector<std::uint64_t> raw(entries.size());
    std::transform(entries.begin(), entries.end(), raw.begin(), [](std::uint64_t v) { return big_endian(v); });
    return write_new(std::as_bytes(std::span(raw)));
}

std::uint64_t Edit::write_new(std::span<const std::byte> bytes)
{
    if (bytes.empty())
        return 0;
    const std::uint64_t clusters = header_.clusters_of(bytes.size());
    const std::uint64_t offset = refcounts_.allocate(clusters) << header_.cluster_bits;
    settle_what_is_free();
    writer_.write(bytes, offset);
    const std::vector<std::byte> rest((clusters << header_.cluster_bits) - bytes.size());
    writer_.write(rest, offset + bytes.size());
    return offset;
}

void Edit::free_structure(std::uint64_t offset, std::uint64_t bytes)
{
    if (bytes)
        refcounts_.decrement(offset >> header_.cluster_bits, header_.clusters_of(bytes));
}

// Before anything is written where the file had something.
void Edit::settle_what_is_free()
{
    if (!settled_ && !refcounts_.reused().empty()) {
        image_.file().barrier();
        settled_ = true;
    }
}

void Edit::commit()
{
    if (refcounts_.changed()) {
        refcounts_.place(header_);
        settle_what_is_free();
        refcounts_.write(writer_, header_);
    }
    writer_.flush();
    image_.file().barrier();
    write_header();
    try {
        image_.file().barrier();
    } catch (const Error &e) {
        fail("{}; the edit is done or not, but nothing in between: look at the image after the host has recovered",
             e.what());
    }
}

// A header that could not be written is still the old one, unless it cannot even be read.
void Edit::write_header()
{
    committed_ = true;
    try {
        image_.file().write(serialise(header_), 0);
    } catch (const Error &) {
        std::array<std::byte, sector_size> sector;
        image_.file().read(sector, 0);
        committed_ = sector != image_.header().sector;
        throw;
    }
}

// The edit is done: what cannot be given back is space, and no failure.
void Edit::give_back()
{
    try {
        for (const Run &run : refcounts_.freed())
            image_.file().punch(run.first << header_.cluster_bits, run.count << header_.cluster_bits);
        const std::uint64_t end = refcounts_.end_of_use() << header_.cluster_bits;
        if (end < image_.file().size())
            image_.file().truncate(end);
    } catch (const Error &) {
    }
}

} // namespace liveblk::qcow2
