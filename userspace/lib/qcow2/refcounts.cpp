// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/refcounts.hpp"

#include "base/error.hpp"
#include "qcow2/refcount_block.hpp"

#include <algorithm>
#include <bit>

namespace liveblk::qcow2 {
namespace {

// A damaged or hostile image could ask for any amount.
constexpr std::uint64_t max_loaded = 4ULL << 30;

} // namespace

Refcounts::Refcounts(const Image &image, Start start)
    : image_(image),
      start_(start),
      order_(image.header().refcount_order),
      block_bits_(image.header().cluster_bits + 3 - order_),
      max_(order_ == 6 ? UINT64_MAX : (1ULL << (1U << order_)) - 1)
{
    const Header &h = image.header();
    old_table_cluster_ = h.reftable_offset >> h.cluster_bits;
    old_table_clusters_ = h.reftable_clusters;
    const std::uint64_t bytes = std::uint64_t{h.reftable_clusters} << h.cluster_bits;
    const bool readable = image.holds(h.reftable_offset, bytes);
    if (!readable && start == Start::from_image)
        fail("read the refcount table at {:#x} of '{}': it does not lie inside of the image", h.reftable_offset,
             image.path());
    table_ = readable ? read_table(image.file(), h.reftable_offset, bytes / 8) : std::vector<std::uint64_t>();
    while (!table_.empty() && !table_.back())
        table_.pop_back();
    const std::uint64_t clusters = image.clusters();
    file_end_ = image.file().size() >> h.cluster_bits;
    if (start == Start::empty) {
        reserve_old_structure();
        // Whatever is lost in the image may still be worth finding: only what lies behind it is written to.
        cursor_ = image.file().is_block_device() ? 1 : clusters;
    } else {
        cursor_ = clusters;
    }
    blocks_.resize(table_.size());
    hole_.resize(table_.size());
    if (start == Start::from_image)
        look_at_old_blocks();
    // A device does not end where its image does, and may have no room behind it.
    if (start == Start::from_image && image.file().is_block_device())
        file_end_ = cursor_ = std::max<std::uint64_t>(end_of_use(), 1);
}

void Refcounts::reserve_old_structure()
{
    for (std::uint64_t c = 0; c < old_table_clusters_; c++)
        reserved_.push_back(old_table_cluster_ + c);
    for (const std::uint64_t offset : table_)
        reserved_.push_back(offset >> image_.header().cluster_bits);
    std::sort(reserved_.begin(), reserved_.end());
    table_.clear();
}

// Two entries that share a block would each free it for the other. And a hole is not worth the memory.
void Refcounts::look_at_old_blocks()
{
    const Header &h = image_.header();
    std::vector<std::uint64_t> offsets;
    for (std::uint64_t i = 0; i < table_.size(); i++) {
        if (!table_[i] || (table_[i] & reftable_reserved) || !image_.holds(table_[i], h.cluster_size()))
            continue; // refused when it is needed
        offsets.push_back(table_[i]);
        hole_[i] = image_.file().is_hole(table_[i], h.cluster_size());
    }
    std::sort(offsets.begin(), offsets.end());
    const auto twice = std::adjacent_find(offsets.begin(), offsets.end());
    if (twice != offsets.end())
        fail("read refcounts of '{}': the refcount table refers to the block at {:#x} twice; see 'check'",
             image_.path(), *twice);
}

Refcounts::Block &Refcounts::load_block(std::uint64_t index)
{
    if (index >= max_reftable_bytes / 8)
        fail("count references in '{}': its refcount table would be larger than 8 MiB", image_.path());
    if (index >= blocks_.size()) {
        blocks_.resize(index + 1);
        table_.resize(index + 1);
        hole_.resize(index + 1);
    }
    if (blocks_[index])
        return *blocks_[index];
    const Header &h = image_.header();
    loaded_bytes_ += h.cluster_size();
    if (loaded_bytes_ > max_loaded)
        fail("read refcounts of '{}': more than 4 GiB of them would be needed", image_.path());
    auto block = std::make_unique<Block>();
    block->data.resize(h.cluster_size());
    if (const std::uint64_t offset = table_[index]) {
        if ((offset & reftable_reserved) || !image_.holds(offset, h.cluster_size()))
            fail("read refcount block {} of '{}': its offset {:#x} is not that of a cluster; "
                 "'check --repair all' counts anew",
                 index, image_.path(), offset);
        if (!hole_[index])
            image_.file().read(block->data, offset);
    }
    blocks_[index] = std::move(block);
    return *blocks_[index];
}

Refcounts::Block &Refcounts::change_block(std::uint64_t index)
{
    Block &block = load_block(index);
    block.changed = changed_ = true;
    return block;
}

std::uint64_t Refcounts::get(std::uint64_t cluster)
{
    const std::uint64_t index = cluster >> block_bits_;
    if (all_zero(index))
        return 0;
    return refcount_get(load_block(index).data, cluster & (per_block() - 1), order_);
}

bool Refcounts::all_in_use(std::uint64_t first, std::uint64_t count)
{
    while (count) {
        const std::uint64_t at = first & (per_block() - 1);
        const std::uint64_t n = std::min(count, per_block() - at);
        if (all_zero(first >> block_bits_))
            return false;
        const auto &data = load_block(first >> block_bits_).data;
        for (std::uint64_t i = at; i < at + n; i++)
            if (!refcount_get(data, i, order_))
                return false;
        first += n;
        count -= n;
    }
    return true;
}

std::uint64_t Refcounts::zeros_from(std::uint64_t cluster) const
{
    const std::uint64_t index = cluster >> block_bits_;
    if (index >= table_.size())
        return UINT64_MAX - cluster;
    return all_zero(index) ? per_block() - (cluster & (per_block() - 1)) : 0;
}

void Refcounts::set(std::uint64_t cluster, std::uint64_t value)
{
    if (value > max_)
        fail("count {} references to the cluster at {:#x} of '{}': a refcount of {} bits cannot hold that", value,
             cluster << image_.header().cluster_bits, image_.path(), 1U << order_);
    const std::uint64_t at = cluster & (per_block() - 1);
    Block &block = change_block(cluster >> block_bits_);
    const std::uint64_t old = refcount_get(block.data, at, order_);
    refcount_set(block.data, at, order_, value);
    if (old && !value) {
        block.freed.resize((per_block() + 63) / 64);
        block.freed[at / 64] |= 1ULL << (at % 64);
    }
}

std::uint64_t Refcounts::one_less(std::uint64_t cluster)
{
    const std::uint64_t value = get(cluster);
    if (value == 0)
        fail("count references to the cluster at {:#x} of '{}': it is in use but its refcount is 0; run "
             "'check --repair all' first",
             cluster << image_.header().cluster_bits, image_.path());
    return value - 1;
}

std::uint64_t Refcounts::one_more(std::uint64_t cluster)
{
    const std::uint64_t value = one_less(cluster) + 1;
    if (value == max_)
        fail("count one more reference to the cluster at {:#x} of '{}': its refcount of {} bits is full",
             cluster << image_.header().cluster_bits, image_.path(), 1U << order_);
    return value + 1;
}

void Refcounts::change(std::uint64_t first, std::uint64_t count, bool up)
{
    while (count) {
        const std::uint64_t at = first & (per_block() - 1);
        const std::uint64_t n = std::min(count, per_block() - at);
        Block &block = change_block(first >> block_bits_);
        // A reference that is not the last leaves nothing to note.
        const std::uint64_t done = up ? refcount_step(block.data, at, n, order_, 1, max_ - 1, 1)
                                      : refcount_step(block.data, at, n, order_, 2, max_, UINT64_MAX);
        first += done;
        count -= done;
        if (done == n)
            continue;
        set(first, up ? one_more(first) : one_less(first));
        first++;
        count--;
    }
}

void Refcounts::place_changed_blocks()
{
    const unsigned bits = image_.header().cluster_bits;
    // Each one that moves may change others, in which its old and its new place are counted.
    for (bool again = true; again;) {
        again = false;
        for (std::uint64_t i = 0; i < blocks_.size(); i++) {
            if (!blocks_[i] || !blocks_[i]->changed || blocks_[i]->placed)
                continue;
            again = blocks_[i]->placed = true;
            if (table_[i])
                decrement(table_[i] >> bits, 1);
            const std::uint64_t place = allocate(1);
            table_[i] = place << bits;
        }
    }
}

void Refcounts::place(Header &header)
{
    if (start_ == Start::from_image)
        decrement(old_table_cluster_, old_table_clusters_);
    std::uint64_t spare = 1;
    while (true) {
        place_changed_blocks();
        const std::uint64_t clusters = header.clusters_of((table_.size() + spare) * 8);
        if (clusters << header.cluster_bits > max_reftable_bytes)
            fail("write the refcount table of '{}': it would be larger than 8 MiB", image_.path());
        const std::uint64_t place = allocate(clusters);
        place_changed_blocks();
        header.reftable_offset = place << header.cluster_bits;
        header.reftable_clusters = static_cast<std::uint32_t>(clusters);
        if (table_.size() * 8 <= clusters << header.cluster_bits)
            return;
        decrement(place, clusters);
        spare = spare * 2 + table_.size() / 8;
    }
}

void Refcounts::write_blocks(Writer &writer) const
{
    std::vector<std::uint64_t> order;
    for (std::uint64_t i = 0; i < blocks_.size(); i++)
        if (blocks_[i] && blocks_[i]->changed)
            order.push_back(i);
    std::sort(order.begin(), order.end(), [&](auto a, auto b) { return table_[a] < table_[b]; });
    for (const std::uint64_t i : order)
        writer.write(blocks_[i]->data, table_[i]);
}

void Refcounts::write(Writer &writer, const Header &header) const
{
    write_blocks(writer);
    std::vector<std::uint64_t> table(std::uint64_t{header.reftable_clusters} << header.cluster_bits >> 3);
    std::transform(table_.begin(), table_.end(), table.begin(), [](std::uint64_t v) { return big_endian(v); });
    writer.write(std::as_bytes(std::span(table)), header.reftable_offset);
}

std::vector<Run> Refcounts::freed() const
{
    std::vector<Run> runs;
    for (std::uint64_t i = 0; i < blocks_.size(); i++) {
        if (!blocks_[i] || blocks_[i]->freed.empty())
            continue;
        for (std::uint64_t at = 0; at < per_block(); at++) {
            const bool is = blocks_[i]->freed[at / 64] >> (at % 64) & 1;
            if (!is || refcount_get(blocks_[i]->data, at, order_))
                continue;
            const std::uint64_t cluster = (i << block_bits_) + at;
            if (!runs.empty() && runs.back().first + runs.back().count == cluster)
                runs.back().count++;
            else
                runs.push_back({cluster, 1});
        }
    }
    return runs;
}

std::uint64_t Refcounts::end_of_use()
{
    for (std::uint64_t i = table_.size(); i-- > 0;) {
        if (all_zero(i))
            continue;
        for (std::uint64_t at = per_block(); at-- > 0;)
            if (refcount_get(load_block(i).data, at, order_))
                return (i << block_bits_) + at + 1;
    }
    return 0;
}

} // namespace liveblk::qcow2
