// SPDX-License-Identifier: GPL-2.0-only
#include "reader.hpp"

#include <algorithm>
#include <map>

namespace hostile {

using namespace format;

namespace {

constexpr std::uint64_t l1_reserved = 0x7f000000000001ffULL;
constexpr std::uint64_t l2_reserved = 0x3f000000000001feULL;
constexpr std::uint64_t largest_guest = 64ULL << 20;
constexpr std::uint64_t most_snapshots = 16;

class Surveyor {
public:
    explicit Surveyor(const Bytes &image) : image_(image) {}

    Survey run()
    {
        try {
            read_header();
            walk_metadata();
            out_.active = walk(l1_offset_, l1_size_, true);
            try_snapshots();
            check_refcounts();
            out_.readable = true;
        } catch (const std::out_of_range &) {
            out_.readable = false;
        }
        return out_;
    }

private:
    template <typename T>
    T at(std::uint64_t offset) const
    {
        return get<T>(image_, offset);
    }

    void read_header()
    {
        unsigned bits = at<std::uint32_t>(h_cluster_bits);
        size_ = at<std::uint64_t>(h_size);
        if (at<std::uint32_t>(h_magic) != magic || bits < 9 || bits > 21 || size_ > largest_guest)
            throw std::out_of_range("header");
        version_ = at<std::uint32_t>(h_version);
        out_.cluster = 1ULL << bits;
        l1_offset_ = at<std::uint64_t>(h_l1_offset);
        l1_size_ = at<std::uint32_t>(h_l1_size);
        if (version_ >= 3) {
            order_ = at<std::uint32_t>(h_refcount_order);
            out_.dirty = at<std::uint64_t>(h_incompatible) & incompat_dirty;
        }
        if (order_ > 6)
            throw std::out_of_range("refcount order");
    }

    // Counts a reference to each cluster of the range.
    void refer(std::uint64_t offset, std::uint64_t length)
    {
        if (length == 0)
            return;
        for (std::uint64_t c = offset / out_.cluster; c <= (offset + length - 1) / out_.cluster; c++) {
            if (c * out_.cluster >= image_.size())
                throw std::out_of_range("table beyond the end");
            references_[c]++;
        }
    }

    void walk_metadata()
    {
        refer(0, out_.cluster);
        reftable_ = at<std::uint64_t>(h_reftable_offset);
        std::uint64_t length = at<std::uint32_t>(h_reftable_clusters) * out_.cluster;
        refer(reftable_, length);
        for (std::uint64_t i = 0; i < length / entry_size; i++) {
            auto entry = at<std::uint64_t>(reftable_ + i * entry_size);
            if (entry == 0)
                continue;
            if (entry % out_.cluster || entry >= image_.size())
                out_.corruptions++;
            else
                refer(entry, out_.cluster);
        }
    }

    std::vector<std::uint64_t> walk(std::uint64_t l1, std::uint64_t entries, bool active)
    {
        refer(l1, entries * entry_size);
        std::uint64_t per_table = out_.cluster / entry_size;
        std::vector<std::uint64_t> map((size_ + out_.cluster - 1) / out_.cluster, maps_to_zero);
        for (std::uint64_t i = 0; i < entries; i++) {
            auto entry = at<std::uint64_t>(l1 + i * entry_size);
            std::uint64_t offset = entry & offset_mask;
            if (entry & l1_reserved || offset % out_.cluster || offset >= image_.size()) {
                out_.corruptions++;
                for (std::uint64_t k = i * per_table; k < std::min<std::uint64_t>((i + 1) * per_table, map.size()); k++)
                    map[k] = maps_to_nothing;
            } else if (offset) {
                refer(offset, out_.cluster);
                check_copied(entry, active);
                walk_l2(offset, i * per_table, map, active);
            }
        }
        return map;
    }

    void walk_l2(std::uint64_t table, std::uint64_t first, std::vector<std::uint64_t> &map, bool active)
    {
        for (std::uint64_t i = 0; i < out_.cluster / entry_size; i++) {
            auto entry = at<std::uint64_t>(table + i * entry_size);
            std::uint64_t to = maps_to_nothing;
            std::uint64_t offset = entry & offset_mask;
            if (entry & compressed) {
                to = maps_to_nothing;
            } else if (entry & l2_reserved || offset % out_.cluster || offset >= image_.size() ||
                       (version_ < 3 && entry & zero_flag)) {
                out_.corruptions++;
            } else {
                to = entry & zero_flag ? maps_to_zero : offset;
                if (offset) {
                    refer(offset, out_.cluster);
                    check_copied(entry, active);
                }
            }
            if (first + i < map.size())
                map[first + i] = to;
        }
    }

    void check_copied(std::uint64_t entry, bool active)
    {
        if (active && entry & copied && refcount((entry & offset_mask) / out_.cluster) != 1)
            out_.corruptions++;
    }

    // A broken snapshot table is no reason to look at nothing.
    void try_snapshots()
    {
        try {
            walk_snapshots();
        } catch (const std::out_of_range &) {
            out_.corruptions++;
            out_.snapshot.clear();
        }
    }

    void walk_snapshots()
    {
        std::uint64_t count = at<std::uint32_t>(h_nb_snapshots);
        if (count > most_snapshots)
            throw std::out_of_range("snapshots");
        std::uint64_t table = at<std::uint64_t>(h_snapshots_offset);
        std::uint64_t here = table;
        for (std::uint64_t n = 0; n < count; n++) {
            auto map = walk(at<std::uint64_t>(here + s_l1_offset), at<std::uint32_t>(here + s_l1_size), false);
            if (n == 0)
                out_.snapshot = map;
            here += s_extra + at<std::uint32_t>(here + s_extra_size) + at<std::uint16_t>(here + s_id_size) +
                    at<std::uint16_t>(here + s_name_size);
            here = (here + 7) / 8 * 8;
        }
        refer(table, here - table);
    }

    std::uint64_t refcount(std::uint64_t cluster) const
    {
        std::uint64_t per_block = out_.cluster * 8 >> order_;
        std::uint64_t length = at<std::uint32_t>(h_reftable_clusters) * out_.cluster;
        if (cluster / per_block >= length / entry_size)
            return 0;
        auto block = at<std::uint64_t>(reftable_ + cluster / per_block * entry_size);
        if (block == 0 || block % out_.cluster || block >= image_.size())
            return 0;
        return get_refcount(image_, block, order_, cluster % per_block);
    }

    void check_refcounts()
    {
        for (const auto &[cluster, count] : references_)
            if (refcount(cluster) < count)
                out_.corruptions++;
    }

    const Bytes &image_;
    Survey out_;
    unsigned version_ = 0;
    unsigned order_ = 4;
    std::uint64_t size_ = 0;
    std::uint64_t l1_offset_ = 0;
    std::uint64_t l1_size_ = 0;
    std::uint64_t reftable_ = 0;
    std::map<std::uint64_t, std::uint64_t> references_;
};

} // namespace

Survey survey(const Bytes &image)
{
    return Surveyor(image).run();
}

} // namespace hostile
