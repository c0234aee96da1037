// SPDX-License-Identifier: GPL-2.0-only
// Small images, by the specification.
#include "image.hpp"

#include <algorithm>
#include <map>

namespace liveblk::unit::txn {

namespace {

constexpr std::uint64_t copied = std::uint64_t{1} << 63;

class Maker {
public:
    Maker(const Shape &shape, Arena &arena, std::uint64_t most) : shape_(shape), arena_(arena)
    {
        image_.shape = shape;
        if (shape.block_device) {
            static const Sector stale = [] {
                Sector s;
                s.fill(0xee);
                return s;
            }();
            image_.content.sectors = SectorMap(&stale);
        }
        image_.content.size = most;
    }

    Image make();

private:
    std::uint64_t take(std::uint64_t clusters, unsigned refs = 1);
    void put(std::uint64_t pos, std::uint64_t value, unsigned bytes);
    void clear(std::uint64_t pos, std::uint64_t clusters);
    void write_out();
    void put_header();
    void put_mapping();
    void put_l2(std::uint64_t table, std::uint64_t index, std::uint64_t flags);
    void put_snapshot();
    void put_bitmap();
    void put_refcounts();
    void put_refcount(std::uint64_t cluster, std::uint64_t value);

    const Shape &shape_;
    Arena &arena_;
    Image image_;
    std::uint64_t next_ = 0;
    std::map<std::uint64_t, unsigned> refs_;      // by cluster
    std::map<std::uint64_t, std::uint64_t> host_; // of guest clusters
    std::map<std::uint64_t, Sector> out_;
    std::uint64_t reftable_ = 0;
    std::uint64_t refblocks_ = 0;
    std::uint64_t nr_refblocks_ = 1;
    std::uint64_t l1_ = 0;
    std::uint64_t snapshots_ = 0;
    std::uint64_t bitmaps_ = 0; // the directory, and then the table
    std::uint64_t snapshot_l1_ = 0;
    std::map<std::uint64_t, std::uint64_t> snapshot_l2_;
    std::vector<std::uint64_t> l2_tables_;
};

std::uint64_t Maker::take(std::uint64_t clusters, unsigned refs)
{
    const std::uint64_t first = next_;
    for (; clusters; clusters--)
        refs_[next_++] = refs;
    return first * shape_.cluster();
}

void Maker::put(std::uint64_t pos, std::uint64_t value, unsigned bytes)
{
    auto [at, fresh] = out_.try_emplace(pos / sector_bytes);
    if (fresh)
        at->second.fill(0);
    while (bytes--) {
        at->second[pos % sector_bytes + bytes] = static_cast<std::uint8_t>(value);
        value >>= 8;
    }
}

// What is not put into it is zeros.
void Maker::clear(std::uint64_t pos, std::uint64_t clusters)
{
    for (const std::uint64_t end = pos + clusters * shape_.cluster(); pos < end; pos += sector_bytes)
        put(pos, 0, 0);
}

void Maker::put_header()
{
    put(0, 0x514649fb, 4);
    put(4, shape_.version, 4);
    put(20, shape_.cluster_bits, 4);
    put(24, shape_.guest_bytes, 8);
    put(36, shape_.l1_entries(), 4);
    put(40, l1_, 8);
    put(48, reftable_, 8);
    put(56, 1, 4);
    put(60, shape_.snapshot, 4);
    put(64, snapshots_, 8);
    if (shape_.version < 3)
        return;
    put(72, shape_.extended ? 16 : 0, 8);
    put(80, shape_.lazy, 8);
    put(96, shape_.refcount_order, 4);
    put(100, 104, 4);
    if (shape_.granularity_bits)
        put_bitmap();
}

// An extension behind the header, the directory with an entry, and a table of zeros.
void Maker::put_bitmap()
{
    put(88, 1, 8);
    put(104, 0x23852875, 4);
    put(108, 24, 4);
    put(112, 1, 4);
    put(120, 32, 8);
    put(128, bitmaps_, 8);
    put(bitmaps_, bitmaps_ + shape_.cluster(), 8);
    put(bitmaps_ + 8, 1, 4);
    put(bitmaps_ + 12, 2, 4); // it records
    put(bitmaps_ + 16, 1, 1);
    put(bitmaps_ + 17, shape_.granularity_bits, 1);
    put(bitmaps_ + 18, 1, 2); // the name's length
    put(bitmaps_ + 24, 'b', 1);
}

void Maker::put_l2(std::uint64_t table, std::uint64_t index, std::uint64_t flags)
{
    for (const auto &[guest, host] : host_) {
        if (guest / shape_.l2_entries() != index)
            continue;
        const std::uint64_t at = table + guest % shape_.l2_entries() * shape_.entry_bytes();
        put(at, host | flags, 8);
        if (shape_.extended)
            put(at + 8, shape_.bitmaps.at(guest), 8);
    }
}

// The snapshot's L1 table, if there is one, refers to the same clusters.
void Maker::put_mapping()
{
    const unsigned shared = shape_.snapshot ? 2 : 1;
    const std::uint64_t flags = shape_.snapshot ? 0 : copied;
    std::vector<std::uint64_t> data = shape_.data;
    if (shape_.backwards)
        std::reverse(data.begin(), data.end());
    for (const std::uint64_t guest : data) {
        const std::uint64_t host = take(1, shared);
        host_[guest] = host;
        const std::uint64_t sectors = shape_.cluster() / sector_bytes;
        for (std::uint64_t i = 0; i < sectors; i++)
            if (shape_.has_data(guest, i))
                out_[host / sector_bytes + i] = GuestLog::content(guest * sectors + i, 0);
    }
    std::uint64_t last = ~std::uint64_t{0};
    for (const std::uint64_t guest : shape_.data) {
        const std::uint64_t index = guest / shape_.l2_entries();
        if (index == last)
            continue;
        last = index;
        const bool both = shape_.snapshot && shape_.own_l2;
        const std::uint64_t table = take(1, both ? 1 : shared);
        l2_tables_.push_back(table);
        put_l2(table, index, flags);
        put(l1_ + index * 8, table | (both ? copied : flags), 8);
        if (both) {
            snapshot_l2_[index] = take(1);
            l2_tables_.push_back(snapshot_l2_[index]);
            put_l2(snapshot_l2_[index], index, 0);
        } else {
            snapshot_l2_[index] = table;
        }
    }
}

void Maker::put_snapshot()
{
    put(snapshots_, snapshot_l1_, 8);
    put(snapshots_ + 8, shape_.l1_entries(), 4);
    put(snapshots_ + 12, 1, 2); // the identifier's length
    put(snapshots_ + 14, 1, 2); // the name's
    put(snapshots_ + 36, 16, 4);
    put(snapshots_ + 48, shape_.guest_bytes, 8);
    put(snapshots_ + 56, '1', 1);
    put(snapshots_ + 57, 's', 1);
    for (const auto &[index, table] : snapshot_l2_)
        put(snapshot_l1_ + index * 8, table, 8);
}

void Maker::put_refcount(std::uint64_t cluster, std::uint64_t value)
{
    const std::uint64_t bit = cluster << shape_.refcount_order;
    const unsigned bits = 1U << shape_.refcount_order;
    const std::uint64_t pos = refblocks_ + bit / 8;
    if (bits >= 8) {
        put(pos, value, bits / 8);
        return;
    }
    put(pos, 0, 0);
    out_[pos / sector_bytes][pos % sector_bytes] |= static_cast<std::uint8_t>(value << bit % 8);
}

void Maker::put_refcounts()
{
    for (std::uint64_t i = 0; i < nr_refblocks_; i++)
        put(reftable_ + i * 8, refblocks_ + i * shape_.cluster(), 8);
    if (!shape_.full_reftable)
        clear(refblocks_, nr_refblocks_);
    for (const auto &[cluster, refs] : refs_)
        put_refcount(cluster, refs);
    image_.clusters = next_;
    if (!shape_.full_reftable)
        return;
    const std::uint64_t all = shape_.reftable_entries() * (shape_.cluster() * 8 >> shape_.refcount_order);
    for (; next_ % (sector_bytes * 8 >> shape_.refcount_order); next_++)
        put_refcount(next_, 1);
    image_.clusters = all - 6;
    for (std::uint64_t i = image_.clusters & ~std::uint64_t{63}; i < image_.clusters; i++)
        put_refcount(i, 1);
}

void Maker::write_out()
{
    for (const auto &[sector, bytes] : out_)
        image_.content.sectors.set(sector, arena_.keep(bytes));
    if (!shape_.full_reftable)
        return;
    Sector ones{};
    for (std::size_t i = 7; i < ones.size(); i += 8)
        ones[i] = 1;
    const Sector *full = arena_.keep(ones);
    const std::uint64_t first = refblocks_ / sector_bytes + next_ / 64;
    for (std::uint64_t s = first; s < refblocks_ / sector_bytes + image_.clusters / 64; s++)
        image_.content.sectors.set(s, full);
}

Image Maker::make()
{
    if (shape_.full_reftable)
        nr_refblocks_ = shape_.reftable_entries();
    take(1);
    reftable_ = take(1);
    refblocks_ = take(nr_refblocks_);
    l1_ = take(1);
    for (const std::uint64_t table : {std::uint64_t{0}, reftable_, l1_})
        clear(table, 1);
    if (shape_.snapshot) {
        snapshots_ = take(1);
        snapshot_l1_ = take(1);
        clear(snapshot_l1_, 1);
    }
    if (shape_.granularity_bits) {
        bitmaps_ = take(2);
        clear(bitmaps_, 2);
    }
    const std::uint64_t before = next_;
    put_mapping();
    for (const std::uint64_t table : l2_tables_)
        clear(table, 1);
    image_.fixed = shape_.snapshot ? next_ : before + l2_tables_.size();
    image_.fixed += shape_.granularity_bits ? 1 : 0; // the bitmap's data
    if (shape_.snapshot)
        put_snapshot();
    put_header();
    put_refcounts();
    write_out();
    if (!shape_.block_device)
        image_.content.size = image_.clusters * shape_.cluster();
    return image_;
}

} // namespace

Image make_image(const Shape &shape, Arena &arena, std::uint64_t most)
{
    return Maker(shape, arena, most).make();
}

} // namespace liveblk::unit::txn
