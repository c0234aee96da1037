// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/metadata_places.hpp"

#include <set>
#include <utility>

namespace liveblk::qcow2 {
namespace {

// A hostile image could claim any number; these are of 8192 snapshots of 1 TiB with clusters of 64 KiB.
constexpr std::uint64_t max_l1_entries = 16 << 20;

class Places {
public:
    explicit Places(const Image &image) : image_(image) {}

    // False if it does not lie in the image.
    bool add(std::uint64_t offset, std::uint64_t bytes)
    {
        if (!bytes)
            return true;
        if (!image_.holds(offset, bytes))
            return false;
        const Header &h = image_.header();
        for (std::uint64_t c = 0; c < h.clusters_of(bytes); c++)
            clusters_.push_back((offset >> h.cluster_bits) + c);
        return true;
    }

    // Snapshots may share an L1 table.
    bool add_l1(std::uint64_t offset, std::uint64_t entries)
    {
        if (!seen_.emplace(offset, entries).second)
            return true;
        entries_ += entries;
        if (entries_ > max_l1_entries || !add(offset, entries * 8))
            return false;
        for_each_entry(image_.file(), offset, entries, [&](std::uint64_t, std::uint64_t entry) {
            clusters_.push_back((entry & offset_mask) >> image_.header().cluster_bits);
        });
        return true;
    }

    std::vector<std::uint64_t> take() { return std::move(clusters_); }

private:
    const Image &image_;
    std::set<std::pair<std::uint64_t, std::uint64_t>> seen_;
    std::uint64_t entries_ = 0;
    std::vector<std::uint64_t> clusters_;
};

} // namespace

std::optional<std::vector<std::uint64_t>> metadata_places(const Image &image)
{
    const Header &h = image.header();
    Places places(image);
    if (!places.add_l1(h.l1_offset, h.l1_size))
        return std::nullopt;
    if (h.nb_snapshots && !places.add(h.snapshots_offset, image.snapshots().bytes))
        return std::nullopt;
    for (const Snapshot &s : image.snapshots().snapshots)
        if (!places.add_l1(s.l1_offset, s.l1_size))
            return std::nullopt;
    return places.take();
}

} // namespace liveblk::qcow2
