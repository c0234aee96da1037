// SPDX-License-Identifier: GPL-2.0-only
// Which free clusters an edit is given.
#include "base/error.hpp"
#include "qcow2/refcount_block.hpp"
#include "qcow2/refcounts.hpp"

#include <algorithm>

namespace liveblk::qcow2 {
namespace {

// To find free clusters refcounts may have to be read that nothing else needs: those of 2 TiB with clusters of 64 KiB.
constexpr std::uint64_t max_searched = 64 << 20;
// And the file may have any number of holes that are smaller than a cluster.
constexpr std::uint64_t max_holes = 1 << 16;

} // namespace

void Refcounts::reach(Reach reach, std::vector<std::uint64_t> reserved)
{
    reach_ = reach;
    reserved_ = std::move(reserved);
    const Header &h = image_.header();
    for (std::uint64_t c = 0; c < old_table_clusters_; c++)
        reserved_.push_back(old_table_cluster_ + c);
    for (const std::uint64_t offset : table_)
        reserved_.push_back(offset >> h.cluster_bits);
    std::sort(reserved_.begin(), reserved_.end());
}

bool Refcounts::is_free(std::uint64_t cluster)
{
    if (get(cluster) || std::binary_search(reserved_.begin(), reserved_.end(), cluster))
        return false;
    const std::uint64_t index = cluster >> block_bits_;
    if (index < blocks_.size() && blocks_[index] && !blocks_[index]->freed.empty()) {
        const std::uint64_t at = cluster & (per_block() - 1);
        return !(blocks_[index]->freed[at / 64] >> (at % 64) & 1);
    }
    return true;
}

std::uint64_t Refcounts::next_zero(std::uint64_t from, std::uint64_t end)
{
    while (from < end) {
        const std::uint64_t index = from >> block_bits_;
        if (all_zero(index))
            return from;
        const std::uint64_t base = index << block_bits_;
        const std::uint64_t block_end = std::min(end, base + per_block());
        from = base + refcount_find_zero(load_block(index).data, from - base, block_end - base, order_);
        if (from < block_end)
            return from;
    }
    return end;
}

std::uint64_t Refcounts::next_free(std::uint64_t from, std::uint64_t end)
{
    while ((from = next_zero(from, end)) < end && !is_free(from))
        from++;
    return from;
}

// The first of so many free clusters in a row.
std::optional<std::uint64_t> Refcounts::free_run(std::uint64_t from, std::uint64_t end, std::uint64_t count)
{
    while ((from = next_free(from, end)) < end && end - from >= count) {
        std::uint64_t n = 1;
        while (n < count && is_free(from + n))
            n++;
        if (n == count)
            return from;
        from += n;
    }
    return std::nullopt;
}

// Clusters from one on, or later, of which any may be given out that is free; none if there are no more.
Run Refcounts::next_in_reach(std::uint64_t from)
{
    if (reach_ == Reach::everywhere)
        return {from, file_end_ - from};
    if (reach_ == Reach::behind_end || image_.file().is_block_device())
        return {};
    const Header &h = image_.header();
    const std::uint64_t end = file_end_ << h.cluster_bits;
    for (std::uint64_t at = from << h.cluster_bits; at < end && holes_seen_ < max_holes; holes_seen_++) {
        const std::uint64_t hole = image_.file().next_hole(at, end);
        at = hole < end ? image_.file().next_data(hole, end) : end;
        const std::uint64_t first = h.clusters_of(hole);
        const std::uint64_t last = at >> h.cluster_bits;
        if (first < last)
            return {first, last - first};
    }
    return {};
}

std::optional<std::uint64_t> Refcounts::search_file(std::uint64_t count)
{
    if (count >= no_run_of_)
        return std::nullopt;
    std::optional<std::uint64_t> found;
    for (std::uint64_t at = file_cursor_; !found && at < file_end_ && searched_bytes_ <= max_searched;) {
        const Run piece = next_in_reach(at);
        if (!piece.count)
            break;
        // In steps, so that the search can end between them.
        const std::uint64_t step = std::min(piece.count, std::max(per_block(), 4 * count));
        const std::uint64_t loaded = loaded_bytes_;
        found = free_run(piece.first, piece.first + step, count);
        // A run may lie across the place where two steps meet.
        at = piece.first + (step < piece.count ? step - count + 1 : step);
        searched_bytes_ += loaded_bytes_ - loaded;
    }
    if (!found)
        no_run_of_ = count;
    return found;
}

void Refcounts::note_reused(std::uint64_t first, std::uint64_t count)
{
    if (!reused_.empty() && reused_.back().first + reused_.back().count == first)
        reused_.back().count += count;
    else
        reused_.push_back({first, count});
}

std::uint64_t Refcounts::search_behind(std::uint64_t from, std::uint64_t count)
{
    const bool device = image_.file().is_block_device();
    const std::uint64_t end = image_.file().size() >> image_.header().cluster_bits;
    std::uint64_t free = 0;
    bool again = from <= 1;
    for (std::uint64_t c = from;; c++) {
        if (device && c >= end) {
            if (again)
                fail("allocate {} consecutive clusters in '{}': the device is full", count, image_.path());
            again = true;
            free = 0;
            c = 1;
        }
        free = is_free(c) ? free + 1 : 0;
        if (free == count)
            return c - count + 1;
    }
}

std::uint64_t Refcounts::allocate(std::uint64_t count)
{
    const std::optional<std::uint64_t> inside = search_file(count);
    const std::uint64_t first = inside ? *inside : search_behind(cursor_, count);
    if (((first + count) << image_.header().cluster_bits) > offset_mask)
        fail("allocate {} clusters in '{}': the image would be larger than the format allows", count, image_.path());
    for (std::uint64_t c = first; c < first + count; c++)
        set(c, 1);
    if (inside || image_.file().is_block_device())
        note_reused(first, count);
    if (count == 1)
        (inside ? file_cursor_ : cursor_) = first + 1;
    return first;
}

} // namespace liveblk::qcow2
