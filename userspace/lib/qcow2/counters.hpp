// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

namespace liveblk::qcow2 {

// How many references to each cluster were found, and whether metadata lies in it. Takes memory only for stretches of
// the file that something refers to: at most 2 bytes for each cluster of the file.
class Counters {
public:
    static constexpr std::uint16_t metadata_mark = 0x8000;
    static constexpr std::uint16_t differs_mark = 0x4000;
    static constexpr std::uint16_t full = 0x3fff; // the rest is in a map
    static constexpr std::uint64_t page_size = 16384;
    using Page = std::array<std::uint16_t, page_size>;

    // Refuses to take more memory than given.
    explicit Counters(std::uint64_t clusters, std::uint64_t max_bytes = 1ULL << 30);

    std::uint64_t clusters() const { return clusters_; }
    std::uint64_t get(std::uint64_t cluster) const;
    bool is_metadata(std::uint64_t cluster) const { return slot(cluster) & metadata_mark; }
    void mark_metadata(std::uint64_t cluster) { page(cluster)[cluster % page_size] |= metadata_mark; }

    // Notes that exactly one of two is 1: the refcount of a cluster, or the number of references to it.
    void mark_differs(std::uint64_t cluster)
    {
        if (Page *p = pages_[cluster / page_size].get())
            (*p)[cluster % page_size] |= differs_mark;
    }
    // Whether the refcount of a cluster, as far as differences were marked, is 1.
    bool refcount_is_one(std::uint64_t cluster) const
    {
        const std::uint16_t s = slot(cluster);
        return ((s & full) == 1) != ((s & differs_mark) != 0);
    }

    // Whether one reference to each was found and no difference; without a look at single clusters.
    bool all_are_one(std::uint64_t first, std::uint64_t count) const;

    // Returns whether metadata lies in one of them. All must be clusters of the file.
    bool add(std::uint64_t first, std::uint64_t count, std::uint64_t references);
    // Counts clusters in which no other metadata lies, and marks them; returns whether those were all of them.
    bool add_metadata(std::uint64_t first, std::uint64_t count, std::uint64_t references);

    // Clusters up to the next one that something may refer to, at a low price.
    std::uint64_t zeros_from(std::uint64_t cluster) const
    {
        return page_if_any(cluster / page_size) ? 0 : page_size - cluster % page_size;
    }

    // Null if nothing refers to any of its clusters.
    const Page *page_if_any(std::uint64_t number) const
    {
        return number < pages_.size() ? pages_[number].get() : nullptr;
    }

private:
    std::uint16_t slot(std::uint64_t cluster) const
    {
        const Page *p = page_if_any(cluster / page_size);
        return p ? (*p)[cluster % page_size] : 0;
    }
    Page &page(std::uint64_t cluster);
    void add_slowly(std::uint64_t cluster, std::uint64_t references);

    std::uint64_t clusters_;
    std::uint64_t max_bytes_;
    std::uint64_t allocated_ = 0;
    std::vector<std::unique_ptr<Page>> pages_;
    std::unordered_map<std::uint64_t, std::uint64_t> beyond_;
};

} // namespace liveblk::qcow2
