// SPDX-License-Identifier: GPL-2.0-only
// The structures of an image and what they refer to; check_refcounts.cpp compares.
#include "qcow2/check.hpp"

#include "base/error.hpp"

#include <algorithm>

namespace liveblk::qcow2 {
namespace {

constexpr std::size_t merge_at_least = 1 << 20;

// A cluster that is in use has an entry of 8 bytes in an L2 table, so its counter takes less than the host has
// allocated for the image; unless the image is made to take memory. 1 GiB is 32 TiB with clusters of 64 KiB.
std::uint64_t memory_for_counters(const Image &image)
{
    return std::clamp<std::uint64_t>(image.file().host_bytes(), 128 << 20, 1 << 30);
}

} // namespace

Checker::Checker(const Image &image, Progress &progress)
    : image_(image),
      h_(image.header()),
      progress_(progress),
      reader_(image),
      counters_(image.clusters(), memory_for_counters(image))
{
    for (unsigned bit = 0; bit < 64; bit++)
        if (h_.incompatible & ~incompat_known & (1ULL << bit))
            not_supported("check '{}': incompatible feature {} ({}) is not supported", image.path(), bit,
                          h_.feature_name(FeatureKind::incompatible, bit));
}

CheckReport Checker::run()
{
    check_header();
    count_refcount_structure();
    count_all_but_refcounts();
    compare();
    check_active();
    return report_;
}

void Checker::count_all_but_refcounts()
{
    claim("header", 0, h_.cluster_size());
    use_l1("active L1 table", h_.l1_offset, h_.l1_size);
    count_snapshots();
    count_encryption();
    count_bitmaps();
    count_tables();
}

Checker::Place Checker::take(std::uint64_t offset, std::uint64_t bytes, std::uint64_t references)
{
    const bool header = offset == 0 && bytes == h_.cluster_size();
    if (!(header && image_.clusters()) && !image_.holds(offset, bytes))
        return Place::outside;
    const bool good = counters_.add_metadata(offset >> h_.cluster_bits, h_.clusters_of(bytes), references);
    return good ? Place::good : Place::overlaps;
}

void Checker::check_header()
{
    if (h_.faults & QCOW2_FAULT_HEADER_LENGTH_ODD)
        structural(
            "header", [&] { return fmt::format("header_length {} is not a multiple of 8", h_.header_length); },
            "extensions may be misread");
    report_.total_clusters = h_.clusters_of(h_.size);
}

void Checker::count_snapshots()
{
    if (h_.nb_snapshots)
        claim("snapshot table", h_.snapshots_offset, image_.snapshots().bytes);
    for (const Snapshot &s : image_.snapshots().snapshots)
        use_l1(fmt::format("L1 table of snapshot {}", printable(s.id)), s.l1_offset, s.l1_size);
}

void Checker::count_encryption()
{
    const Extension *e = h_.find(extension_crypto);
    u64 offset = 0;
    u64 length = 0;
    if (h_.crypt_method == QCOW2_CRYPT_LUKS && e &&
        !qcow2_crypto_parse(e->data.data(), e->data.size(), &offset, &length))
        claim("encryption header", offset, length);
}

void Checker::count_bitmaps()
{
    const Extension *e = h_.find(extension_bitmaps);
    qcow2_bitmaps bitmaps;
    if (!(h_.autoclear & autoclear_bitmaps) || !e || qcow2_bitmaps_parse(e->data.data(), e->data.size(), &bitmaps))
        return;
    const std::uint64_t offset = bitmaps.directory_offset;
    const std::uint64_t bytes = bitmaps.directory_size;
    if (bitmaps.nb_bitmaps > max_bitmaps || bytes > max_bitmap_directory_bytes) {
        structural("bitmap directory", "it is larger than the format allows", "bitmaps are lost");
        return;
    }
    if (!claim("bitmap directory", offset, bytes))
        return;
    std::vector<std::byte> directory(bytes);
    image_.file().read(directory, offset);
    std::uint64_t at = 0;
    for (std::uint32_t i = 0; i < bitmaps.nb_bitmaps; i++) {
        if (count_bitmap(directory, at, i))
            continue;
        structural([&] { return fmt::format("bitmap directory entry {}", i); }, "it ends past the end of the directory",
                   "this bitmap and those after it are lost");
        return;
    }
}

bool Checker::count_bitmap(std::span<const std::byte> directory, std::uint64_t &at, std::uint32_t number)
{
    qcow2_bitmap bitmap;
    const auto bytes = qcow2_bitmap_parse(directory.data() + at, directory.size() - at, &bitmap);
    if (bytes < 0)
        return false;
    at = std::min<std::uint64_t>(directory.size(), at + static_cast<std::uint64_t>(bytes));
    count_bitmap_table(number, bitmap.table_offset, bitmap.table_size);
    return true;
}

void Checker::count_bitmap_table(std::uint32_t number, std::uint64_t offset, std::uint32_t entries)
{
    const auto name = [&] { return fmt::format("table of bitmap {}", number); };
    if (entries > max_bitmap_bytes / h_.cluster_size()) {
        structural(
            name, [&] { return fmt::format("it has {} entries", entries); }, "the bitmap cannot be used");
        return;
    }
    if (!entries || !claim(name, offset, 8ULL * entries))
        return;
    for_each_entry(image_.file(), offset, entries, [&](std::uint64_t i, std::uint64_t entry) {
        const auto where = [&] { return fmt::format("bitmap {} data {}", number, i); };
        if (!qcow2_bitmap_entry_valid(entry))
            structural(where, "reserved bits are set", "the bitmap cannot be used");
        else if (const std::uint64_t data = entry & offset_mask)
            claim(where, data, h_.cluster_size());
    });
}

void Checker::use_l1(const std::string &whose, std::uint64_t offset, std::uint64_t entries)
{
    if (!entries)
        return;
    if (entries * 8 > max_l1_bytes) {
        structural(
            whose, [&] { return fmt::format("it has {} entries", entries); }, "what it maps is lost");
        return;
    }
    if (!claim(whose, offset, entries * 8))
        return;
    for_each_entry(image_.file(), offset, entries, [&](std::uint64_t i, std::uint64_t entry) {
        if (reader_.valid(entry))
            tables_.push_back({entry & offset_mask, 1});
        else
            structural([&] { return fmt::format("{} entry {}", whose, i); },
                       [&] { return fmt::format("{:#x} is no L2 table of this image", entry); },
                       "what it maps is lost");
    });
    if (tables_.size() > 2 * merged_ + merge_at_least)
        merge_tables();
}

void Checker::merge_tables()
{
    std::sort(tables_.begin(), tables_.end(), [](const auto &a, const auto &b) { return a.offset < b.offset; });
    std::size_t used = 0;
    for (std::size_t i = 0; i < tables_.size(); i++) {
        if (used && tables_[used - 1].offset == tables_[i].offset)
            tables_[used - 1].references += tables_[i].references;
        else
            tables_[used++] = tables_[i];
    }
    tables_.resize(used);
    merged_ = used;
}

void Checker::count_tables()
{
    merge_tables();
    to_check_.assign(tables_.size(), false);
    // First all tables, so that data that lies in one is noticed.
    std::uint64_t sound = 0;
    for (std::size_t i = 0; i < tables_.size(); i++)
        sound += to_check_[i] = claim("L2 table", tables_[i].offset, h_.cluster_size(), tables_[i].references);
    progress_.begin("count references", sound << h_.cluster_bits);
    for (std::size_t i = 0; i < tables_.size(); i++) {
        if (!to_check_[i])
            continue;
        progress_.advance(h_.cluster_size());
        if (image_.file().is_hole(tables_[i].offset, h_.cluster_size()))
            continue;
        reader_.prefetch(i, tables_.size(), [&](std::size_t n) { return to_check_[n] ? tables_[n].offset : 0; });
        count_table(tables_[i]);
    }
    progress_.end();
}

void Checker::count_table(const TableUse &use)
{
    const auto words = reader_.read(use.offset);
    const auto where = [&] { return fmt::format("L2 table at {:#x}", use.offset); };
    const auto entry = [&](std::size_t i) {
        return [&use, i] { return fmt::format("L2 table at {:#x} entry {}", use.offset, i); };
    };
    for_each_run(
        reader_.format(), words,
        [&](std::uint64_t first, std::uint64_t count) {
            if (counters_.add(first, count, use.references))
                structural(
                    where,
                    [&] {
                        return fmt::format("data at {:#x} to {:#x} overlaps metadata", first << h_.cluster_bits,
                                           (first + count) << h_.cluster_bits);
                    },
                    "writing there destroys the metadata");
        },
        [&](std::size_t i) {
            structural(
                entry(i), [&] { return fmt::format("{:#x} is not valid", words[i * reader_.format().stride()]); },
                "the cluster cannot be read");
        });
    if (!reader_.format().extended())
        return;
    for (std::size_t i = 0; i < words.size(); i += 2) {
        if (!reader_.format().subclusters_valid(words[i], words[i + 1]))
            structural(
                entry(i / 2), [&] { return fmt::format("subcluster bitmap {:#x} is not valid", words[i + 1]); },
                "the cluster cannot be read");
    }
}

} // namespace liveblk::qcow2
