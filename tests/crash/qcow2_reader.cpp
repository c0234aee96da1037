// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2_reader.hpp"

#include "pattern.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace liveblk::crash {
namespace {

constexpr std::uint64_t offset_mask = 0x00fffffffffffe00;
constexpr std::uint64_t zero_flag = 1;
constexpr std::uint64_t compressed_flag = std::uint64_t{1} << 62;

struct Header {
    Be32 magic, version;
    Be64 backing_offset;
    Be32 backing_length, cluster_bits;
    Be64 size;
    Be32 crypt_method, l1_entries;
    Be64 l1_offset, refcount_table_offset;
    Be32 refcount_table_clusters, snapshot_count;
    Be64 snapshot_offset;
    // From version 3 on.
    Be64 incompatible, compatible, autoclear;
    Be32 refcount_order, header_length;
};
static_assert(sizeof(Header) == 104);

struct SnapshotHeader {
    Be64 l1_offset;
    Be32 l1_entries;
    OnDisk<std::uint16_t, std::endian::big> id_length, name_length;
    Be32 seconds, nanoseconds;
    Be64 clock;
    Be32 vm_state_size, extra_length;
};
static_assert(sizeof(SnapshotHeader) == 40);

} // namespace

Qcow2Reader::Qcow2Reader(std::span<const std::byte> image) : image_(image)
{
    const auto header = load<Header>(image, 0);
    version_ = header.version.value();
    if (header.magic.value() != 0x514649fb || (version_ != 2 && version_ != 3))
        throw std::runtime_error("no qcow2 header of version 2 or 3");
    cluster_bits_ = header.cluster_bits.value();
    if (cluster_bits_ < 9 || cluster_bits_ > 21)
        throw std::runtime_error(fmt::format("cluster bits {}", cluster_bits_));
    if (version_ == 3)
        incompatible_ = header.incompatible.value();
    // Only the dirty bit is known here.
    if (incompatible_ > 1 || header.backing_offset.value() || header.crypt_method.value())
        throw std::runtime_error("the image has features that the crash workloads do not use");
    size_ = header.size.value();
    active_l1_ = {header.l1_offset.value(), header.l1_entries.value()};
    refcount_table_ = header.refcount_table_offset.value();
    refcount_table_entries_ = header.refcount_table_clusters.value() * (cluster_size() / sizeof(Be64));
    read_snapshots(header.snapshot_offset.value(), header.snapshot_count.value());
}

void Qcow2Reader::read_snapshots(std::uint64_t offset, std::uint32_t count)
{
    for (std::uint32_t i = 0; i < count; i++) {
        const auto header = load<SnapshotHeader>(image_, offset);
        const std::uint64_t name_at =
            offset + sizeof(SnapshotHeader) + header.extra_length.value() + header.id_length.value();
        const std::uint64_t name_length = header.name_length.value();
        if (name_at > image_.size() || name_length > image_.size() - name_at)
            throw std::runtime_error(fmt::format("snapshot {} lies past the end of the image", i));
        const auto name = image_.subspan(name_at, name_length);
        snapshots_.push_back({{reinterpret_cast<const char *>(name.data()), name.size()},
                              {header.l1_offset.value(), header.l1_entries.value()}});
        offset = (name_at + name_length + 7) / 8 * 8;
    }
}

std::uint64_t Qcow2Reader::entry(std::uint64_t table, std::uint64_t index) const
{
    return load<Be64>(image_, table + index * sizeof(Be64)).value();
}

std::span<const std::byte> Qcow2Reader::sector_of(const L1 &l1, std::uint64_t number) const
{
    const std::uint64_t at = number * test::sector_size;
    const std::uint64_t cluster = at >> cluster_bits_;
    const std::uint64_t per_table = cluster_size() / sizeof(Be64);
    if (cluster / per_table >= l1.entries)
        throw std::out_of_range(fmt::format("sector {} lies past the L1 table", number));
    const std::uint64_t table = entry(l1.offset, cluster / per_table) & offset_mask;
    if (!table)
        return {};
    const std::uint64_t mapping = entry(table, cluster % per_table);
    if (mapping & compressed_flag)
        throw std::runtime_error(fmt::format("sector {} is compressed, which nobody asked for", number));
    const std::uint64_t host = mapping & offset_mask;
    if (!host || (version_ == 3 && (mapping & zero_flag)))
        return {};
    const std::uint64_t byte = host + (at & (cluster_size() - 1));
    // Past the end of a file reads as zeros there and is wrong all the same: check by the caller's eyes.
    if (byte + test::sector_size > image_.size())
        throw std::out_of_range(fmt::format("sector {} is mapped past the end of the image, to {}", number, byte));
    return image_.subspan(byte, test::sector_size);
}

bool Qcow2Reader::has_snapshot(const std::string &name) const
{
    return std::any_of(snapshots_.begin(), snapshots_.end(), [&](const Snapshot &s) { return s.name == name; });
}

std::span<const std::byte> Qcow2Reader::snapshot_sector(const std::string &name, std::uint64_t number) const
{
    for (const Snapshot &snapshot : snapshots_)
        if (snapshot.name == name)
            return sector_of(snapshot.l1, number);
    throw std::runtime_error("the image has no snapshot " + name);
}

bool Qcow2Reader::table_points_at(std::uint64_t table, std::uint64_t entries, std::uint64_t offset) const
{
    for (std::uint64_t i = 0; i < entries; i++) {
        const std::uint64_t target = entry(table, i) & offset_mask;
        if (target && offset >= target && offset < target + cluster_size())
            return true;
    }
    return false;
}

bool Qcow2Reader::is_refcount_block(std::uint64_t offset) const
{
    return table_points_at(refcount_table_, refcount_table_entries_, offset);
}

bool Qcow2Reader::is_l2_table(std::uint64_t offset) const
{
    return table_points_at(active_l1_.offset, active_l1_.entries, offset);
}

} // namespace liveblk::crash
