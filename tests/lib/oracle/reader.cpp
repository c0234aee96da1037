// SPDX-License-Identifier: GPL-2.0-only
#include "oracle/reader.hpp"

namespace liveblk::oracle {

using namespace format;

namespace {

constexpr std::uint64_t sector_size = 512;
constexpr std::uint64_t l1_reserved = 0x7f000000000001ffULL;
constexpr std::uint64_t l2_reserved = 0x3f000000000001feULL;

} // namespace

Reader::Reader(std::span<const std::byte> image) : image_(image)
{
    version_ = get<std::uint32_t>(image, h_version);
    if (get<std::uint32_t>(image, h_magic) != magic || (version_ != 2 && version_ != 3))
        throw std::runtime_error("no qcow2 header of version 2 or 3");
    cluster_bits_ = get<std::uint32_t>(image, h_cluster_bits);
    if (cluster_bits_ < 9 || cluster_bits_ > 21)
        throw std::runtime_error("cluster bits " + std::to_string(cluster_bits_));
    if (version_ == 3) {
        incompatible_ = get<std::uint64_t>(image, h_incompatible);
        refcount_order_ = get<std::uint32_t>(image, h_refcount_order);
    }
    if (refcount_order_ > 6)
        throw std::runtime_error("refcount order " + std::to_string(refcount_order_));
    backing_offset_ = get<std::uint64_t>(image, h_backing_offset);
    crypt_method_ = get<std::uint32_t>(image, h_crypt_method);
    size_ = get<std::uint64_t>(image, h_size);
    l1_ = {get<std::uint64_t>(image, h_l1_offset), get<std::uint32_t>(image, h_l1_size)};
    refcount_table_ = {get<std::uint64_t>(image, h_reftable_offset),
                       get<std::uint32_t>(image, h_reftable_clusters) * (cluster_size() / entry_size)};
    snapshot_count_ = get<std::uint32_t>(image, h_nb_snapshots);
    snapshot_table_ = get<std::uint64_t>(image, h_snapshots_offset);
}

Reader::Reader(std::span<const std::byte> image, std::span<const std::byte> data) : Reader(image)
{
    data_ = data;
    external_ = true;
    if (!(incompatible_ & incompat_data_file))
        throw std::runtime_error("the image has no external data file");
}

bool Reader::plain() const
{
    const std::uint64_t fine =
        incompat_dirty | incompat_extended_l2 | (external_ ? std::uint64_t{incompat_data_file} : 0);
    return (incompatible_ & ~fine) == 0 && backing_offset_ == 0 && crypt_method_ == 0;
}

std::uint64_t Reader::entry(std::uint64_t table, std::uint64_t index) const
{
    return get<std::uint64_t>(image_, table + index * entry_size);
}

bool Reader::may_be_cluster(std::uint64_t offset) const
{
    return offset % cluster_size() == 0 && offset < image_.size();
}

std::uint64_t Reader::refcount(std::uint64_t cluster) const
{
    const std::uint64_t per_block = cluster_size() * 8 >> refcount_order_;
    if (cluster / per_block >= refcount_table_.entries)
        return 0;
    const std::uint64_t block = entry(refcount_table_.offset, cluster / per_block);
    if (block == 0 || !may_be_cluster(block))
        return 0;
    return get_refcount(image_, block, refcount_order_, cluster % per_block);
}

L2Place Reader::l2_place(const Table &l1, std::uint64_t index) const
{
    const std::uint64_t raw = entry(l1.offset, index);
    const std::uint64_t offset = raw & offset_mask;
    return {(raw & l1_reserved) == 0 && may_be_cluster(offset), (raw & copied) != 0, offset};
}

Mapping Reader::mapping(std::uint64_t l2_table, std::uint64_t index) const
{
    const std::uint64_t raw = get<std::uint64_t>(image_, l2_table + index * l2_entry_size());
    // Of entries without bits, a cluster is one unit.
    const std::uint64_t bits =
        extended() ? get<std::uint64_t>(image_, l2_table + index * l2_entry_size() + entry_size) : 1;
    Mapping found;
    if (raw & compressed) {
        if (!extended() || !bits)
            found.kind = Mapping::Kind::compressed;
        return found;
    }
    const std::uint64_t offset = raw & offset_mask;
    const bool zero = raw & zero_flag;
    if (extended() && (zero || (bits & all_data & bits >> subclusters)))
        return found;
    if (raw & l2_reserved || (version_ < 3 && zero) || (external_ ? offset % cluster_size() : !may_be_cluster(offset)))
        return found;
    const bool placed = offset || (external_ && (raw & copied));
    if (extended() && !placed && (bits & all_data))
        return found;
    found.copied = raw & copied;
    found.offset = offset;
    found.data = bits & all_data;
    if (zero || (placed && !found.data))
        found.kind = Mapping::Kind::zero;
    else
        found.kind = placed ? Mapping::Kind::data : Mapping::Kind::hole;
    return found;
}

Snapshot Reader::snapshot_at(std::uint64_t offset) const
{
    Snapshot snapshot;
    snapshot.l1 = {get<std::uint64_t>(image_, offset + s_l1_offset), get<std::uint32_t>(image_, offset + s_l1_size)};
    const std::uint64_t name_at = offset + s_extra + get<std::uint32_t>(image_, offset + s_extra_size) +
                                  get<std::uint16_t>(image_, offset + s_id_size);
    const std::uint64_t name_length = get<std::uint16_t>(image_, offset + s_name_size);
    check_bounds("get", name_length, image_.size(), name_at);
    const auto name = image_.subspan(name_at, name_length);
    snapshot.name.assign(reinterpret_cast<const char *>(name.data()), name.size());
    snapshot.end = (name_at + name_length + 7) / 8 * 8;
    return snapshot;
}

std::vector<Snapshot> Reader::snapshots() const
{
    std::vector<Snapshot> all;
    std::uint64_t at = snapshot_table_;
    for (std::uint64_t i = 0; i < snapshot_count_; i++) {
        all.push_back(snapshot_at(at));
        at = all.back().end;
    }
    return all;
}

std::span<const std::byte> Reader::sector(const Table &l1, std::uint64_t number) const
{
    // Only made for an error: all sectors of a disk are looked at, again and again.
    const auto what = [number] { return "sector " + std::to_string(number); };
    const std::uint64_t at = number * sector_size;
    const std::uint64_t cluster = at >> cluster_bits_;
    const std::uint64_t per_table = l2_entries();
    if (cluster / per_table >= l1.entries)
        throw std::out_of_range(what() + " lies past the L1 table");
    const L2Place place = l2_place(l1, cluster / per_table);
    if (!place.valid)
        throw std::runtime_error(what() + " has an L1 entry that is none");
    if (place.offset == 0)
        return {};
    const Mapping found = mapping(place.offset, cluster % per_table);
    if (found.kind == Mapping::Kind::compressed)
        throw std::runtime_error(what() + " is compressed, which nobody asked for");
    if (found.kind == Mapping::Kind::invalid)
        throw std::runtime_error(what() + " has an L2 entry that is none");
    if (found.reads_as_zeros() || !(found.data >> (at & (cluster_size() - 1)) / unit() & 1))
        return {};
    const std::uint64_t byte = found.offset + (at & (cluster_size() - 1));
    // QEMU takes any other place in it for corruption.
    if (external_ && byte != at)
        throw std::runtime_error(what() + " is at " + std::to_string(byte) + " of the data file");
    if (external_)
        return byte + sector_size <= data_.size() ? data_.subspan(byte, sector_size) : std::span<const std::byte>();
    // Past the end of a file reads as zeros there and is wrong all the same.
    if (byte + sector_size > image_.size())
        throw std::out_of_range(what() + " is mapped past the end of the image, to " + std::to_string(byte));
    return image_.subspan(byte, sector_size);
}

bool Reader::table_points_at(const Table &table, std::uint64_t offset) const
{
    for (std::uint64_t i = 0; i < table.entries; i++) {
        const std::uint64_t target = entry(table.offset, i) & offset_mask;
        if (target && offset >= target && offset < target + cluster_size())
            return true;
    }
    return false;
}

} // namespace liveblk::oracle
