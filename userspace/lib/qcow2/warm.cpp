// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/warm.hpp"

#include "base/error.hpp"
#include "qcow2/format.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace liveblk::qcow2 {
namespace {

constexpr std::size_t ahead = 64;

// In the order they have on the host, each once.
void warm(const Image &image, std::vector<std::uint64_t> offsets)
{
    const std::uint64_t size = image.header().cluster_size();
    // Its page cache is dropped when the device is suspended.
    if (image.file().is_block_device())
        return;
    std::sort(offsets.begin(), offsets.end());
    offsets.erase(std::unique(offsets.begin(), offsets.end()), offsets.end());
    std::vector<std::byte> cluster(size);
    try {
        for (std::size_t i = 0; i < offsets.size(); i++) {
            if (i % ahead == 0)
                for (std::size_t next = i; next < std::min(i + ahead, offsets.size()); next++)
                    image.file().prefetch(offsets[next], size);
            if (image.file().next_data(offsets[i], offsets[i] + size) < offsets[i] + size)
                image.file().read(cluster, offsets[i]);
        }
    } catch (const Error &) {
        // It was to save time; whoever needs these will say what is wrong with them.
    }
}

} // namespace

void warm_tables(const Image &image, std::span<const std::uint64_t> l1)
{
    std::vector<std::uint64_t> offsets;
    for (const std::uint64_t entry : l1)
        if (entry && image.holds(entry & offset_mask, image.header().cluster_size()))
            offsets.push_back(entry & offset_mask);
    warm(image, std::move(offsets));
}

void warm_refcounts(const Image &image)
{
    const Header &h = image.header();
    const std::uint64_t bytes = static_cast<std::uint64_t>(h.reftable_clusters) << h.cluster_bits;
    std::vector<std::uint64_t> offsets;
    for_each_entry(image.file(), h.reftable_offset, bytes / 8, [&](std::uint64_t, std::uint64_t entry) {
        if (image.holds(entry, h.cluster_size()))
            offsets.push_back(entry);
    });
    warm(image, std::move(offsets));
}

void warm_disk(const Image &image)
{
    warm_tables(image, image.read_active_l1());
    warm_refcounts(image);
}

} // namespace liveblk::qcow2
