// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/counters.hpp"

#include "base/error.hpp"

#include <algorithm>

namespace liveblk::qcow2 {
namespace {

constexpr std::uint64_t max_pages = 1ULL << 23;

} // namespace

Counters::Counters(std::uint64_t clusters, std::uint64_t max_bytes) : clusters_(clusters), max_bytes_(max_bytes)
{
    const std::uint64_t pages = (clusters + page_size - 1) / page_size;
    if (pages > max_pages)
        fail("count references: a file of {} clusters is too large", clusters);
    pages_.resize(pages);
}

std::uint64_t Counters::get(std::uint64_t cluster) const
{
    const std::uint64_t low = slot(cluster) & full;
    if (low < full)
        return low;
    const auto it = beyond_.find(cluster);
    return low + (it == beyond_.end() ? 0 : it->second);
}

Counters::Page &Counters::page(std::uint64_t cluster)
{
    auto &p = pages_[cluster / page_size];
    if (!p) {
        allocated_ += sizeof(Page);
        if (allocated_ > max_bytes_)
            fail("count references: they are spread so widely that more than {} MiB of memory would be needed",
                 max_bytes_ >> 20);
        p = std::make_unique<Page>();
    }
    return *p;
}

void Counters::add_slowly(std::uint64_t cluster, std::uint64_t references)
{
    std::uint16_t &s = page(cluster)[cluster % page_size];
    const std::uint64_t room = static_cast<std::uint64_t>(full - (s & full));
    const std::uint64_t here = std::min(room, references);
    s = static_cast<std::uint16_t>(s + here);
    if (references > here)
        beyond_[cluster] += references - here;
}

bool Counters::add(std::uint64_t first, std::uint64_t count, std::uint64_t references)
{
    bool metadata = false;
    while (count) {
        const std::uint64_t at = first % page_size;
        const std::uint64_t n = std::min(count, page_size - at);
        std::uint16_t *const slots = page(first).data() + at;
        std::uint16_t seen = 0;
        std::uint16_t highest = 0;
        for (std::uint64_t i = 0; i < n; i++) {
            seen |= slots[i];
            highest = std::max<std::uint16_t>(highest, slots[i] & full);
        }
        metadata |= (seen & metadata_mark) != 0;
        if (highest + references < full)
            for (std::uint64_t i = 0; i < n; i++)
                slots[i] = static_cast<std::uint16_t>(slots[i] + references);
        else
            for (std::uint64_t i = 0; i < n; i++)
                add_slowly(first + i, references);
        first += n;
        count -= n;
    }
    return metadata;
}

bool Counters::all_are_one(std::uint64_t first, std::uint64_t count) const
{
    while (count) {
        const Page *p = page_if_any(first / page_size);
        if (!p)
            return false;
        const std::uint64_t n = std::min(count, page_size - first % page_size);
        const std::uint16_t *const slots = p->data() + first % page_size;
        bool one = true;
        for (std::uint64_t i = 0; i < n; i++)
            one &= (slots[i] & (full | differs_mark)) == 1;
        if (!one)
            return false;
        first += n;
        count -= n;
    }
    return true;
}

bool Counters::add_metadata(std::uint64_t first, std::uint64_t count, std::uint64_t references)
{
    bool all = true;
    while (count) {
        const std::uint64_t n = std::min(count, page_size - first % page_size);
        std::uint16_t *const slots = page(first).data() + first % page_size;
        std::uint16_t marks = metadata_mark;
        for (std::uint64_t i = 0; i < n; i++)
            marks &= slots[i];
        all &= marks == 0;
        // Tables that lie upon one another are not to take their product in time.
        for (std::uint64_t i = 0; !marks && i < n; i++) {
            if (slots[i] & metadata_mark) {
                all = false;
                continue;
            }
            add_slowly(first + i, references);
            slots[i] |= metadata_mark;
        }
        first += n;
        count -= n;
    }
    return all;
}

} // namespace liveblk::qcow2
