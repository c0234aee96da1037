// SPDX-License-Identifier: GPL-2.0-only
#include "oracle/survey.hpp"

#include <algorithm>
#include <map>

namespace liveblk::oracle {

using namespace format;

namespace {

constexpr std::uint64_t largest_guest = 64ULL << 20;
constexpr std::uint64_t most_snapshots = 16;

class Surveyor {
public:
    explicit Surveyor(std::span<const std::byte> image) : image_(image), reader_(image)
    {
        if (reader_.size() > largest_guest)
            throw std::out_of_range("the guest is too large for this");
        out_.cluster = reader_.cluster_size();
        out_.unit = reader_.unit();
        out_.dirty = reader_.dirty();
    }

    Survey run()
    {
        walk_metadata();
        out_.active = walk(reader_.l1(), true);
        try_snapshots();
        check_refcounts();
        out_.readable = true;
        return out_;
    }

private:
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
        const Table &table = reader_.refcount_table();
        refer(table.offset, table.entries * entry_size);
        for (std::uint64_t i = 0; i < table.entries; i++) {
            const std::uint64_t block = reader_.entry(table.offset, i);
            if (block == 0)
                continue;
            if (reader_.may_be_cluster(block))
                refer(block, out_.cluster);
            else
                out_.corruptions++;
        }
    }

    std::vector<std::uint64_t> walk(const Table &l1, bool active)
    {
        refer(l1.offset, l1.entries * entry_size);
        const std::uint64_t per_table = reader_.l2_entries() * reader_.units();
        std::vector<std::uint64_t> map((reader_.size() + out_.unit - 1) / out_.unit, maps_to_zero);
        for (std::uint64_t i = 0; i < l1.entries; i++) {
            const L2Place place = reader_.l2_place(l1, i);
            if (!place.valid) {
                out_.corruptions++;
                for (std::uint64_t k = i * per_table; k < std::min<std::uint64_t>((i + 1) * per_table, map.size()); k++)
                    map[k] = maps_to_nothing;
            } else if (place.offset) {
                refer(place.offset, out_.cluster);
                check_copied(place.copied, place.offset, active);
                walk_l2(place.offset, i * per_table, map, active);
            }
        }
        return map;
    }

    void walk_l2(std::uint64_t table, std::uint64_t first, std::vector<std::uint64_t> &map, bool active)
    {
        for (std::uint64_t i = 0; i < reader_.l2_entries(); i++) {
            const Mapping found = reader_.mapping(table, i);
            if (found.kind == Mapping::Kind::invalid)
                out_.corruptions++;
            if (found.offset) {
                refer(found.offset, out_.cluster);
                check_copied(found.copied, found.offset, active);
            }
            for (std::uint64_t unit = 0, at = first + i * reader_.units(); unit < reader_.units(); unit++, at++)
                if (at < map.size())
                    map[at] = place_of(found, unit);
        }
    }

    std::uint64_t place_of(const Mapping &found, std::uint64_t unit) const
    {
        if (found.reads_as_zeros())
            return maps_to_zero;
        if (found.kind != Mapping::Kind::data)
            return maps_to_nothing;
        return found.data >> unit & 1 ? found.offset + unit * out_.unit : maps_to_zero;
    }

    void check_copied(bool copied, std::uint64_t offset, bool active)
    {
        if (active && copied && reader_.refcount(offset / out_.cluster) != 1)
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
        if (reader_.snapshot_count() > most_snapshots)
            throw std::out_of_range("snapshots");
        std::uint64_t at = reader_.snapshot_table();
        for (std::uint64_t n = 0; n < reader_.snapshot_count(); n++) {
            const Snapshot snapshot = reader_.snapshot_at(at);
            auto map = walk(snapshot.l1, false);
            if (n == 0)
                out_.snapshot = map;
            at = snapshot.end;
        }
        refer(reader_.snapshot_table(), at - reader_.snapshot_table());
    }

    void check_refcounts()
    {
        for (const auto &[cluster, count] : references_)
            if (reader_.refcount(cluster) < count)
                out_.corruptions++;
    }

    std::span<const std::byte> image_;
    Reader reader_;
    Survey out_;
    std::map<std::uint64_t, std::uint64_t> references_;
};

} // namespace

Survey survey(std::span<const std::byte> image)
{
    try {
        return Surveyor(image).run();
    } catch (const std::out_of_range &) {
        return {};
    } catch (const std::runtime_error &) {
        return {};
    }
}

} // namespace liveblk::oracle
