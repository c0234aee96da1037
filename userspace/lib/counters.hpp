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
    static constexpr std::uint16_t full = 0x7fff; // the rest is in a map
    static constexpr std::uint64_t page_size = 16384;
    using Page = std::array<std::uint16_t, page_size>;

    explicit Counters(std::uint64_t clusters);

    std::uint64_t clusters() const { return clusters_; }
    std::uint64_t get(std::uint64_t cluster) const;
    bool is_metadata(std::uint64_t cluster) const { return slot(cluster) & metadata_mark; }
    void mark_metadata(std::uint64_t cluster) { page(cluster)[cluster % page_size] |= metadata_mark; }

    // Returns whether metadata lies in one of them. All must be clusters of the file.
    bool add(std::uint64_t first, std::uint64_t count, std::uint64_t references);

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
    std::uint64_t allocated_ = 0;
    std::vector<std::unique_ptr<Page>> pages_;
    std::unordered_map<std::uint64_t, std::uint64_t> beyond_;
};

} // namespace liveblk::qcow2
