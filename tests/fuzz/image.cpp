// SPDX-License-Identifier: GPL-2.0-only
#include "image.hpp"

#include <algorithm>

namespace hostile {

using namespace format;

namespace {

constexpr std::uint64_t populated_clusters = 24;
constexpr std::uint64_t noise_tag = 0xdead;
constexpr std::uint64_t block_device_slack = 64;

enum class Kind { data, hole, zero, prealloc_zero };

// A fixed mixture, so that cases can name a cluster of each kind.
Kind kind_of(std::uint64_t index, bool zero_allowed)
{
    if (index >= populated_clusters)
        return Kind::hole;
    switch (index % 6) {
    case Image::hole_cluster:
        return Kind::hole;
    case Image::zero_cluster:
        return zero_allowed ? Kind::zero : Kind::hole;
    case Image::prealloc_zero_cluster:
        return zero_allowed ? Kind::prealloc_zero : Kind::data;
    default:
        return Kind::data;
    }
}

auto place(Bytes &bytes, std::uint64_t at)
{
    return bytes.begin() + static_cast<Bytes::difference_type>(at);
}

} // namespace

std::uint64_t guest_size(const Geometry &geometry)
{
    std::uint64_t entries = geometry.cluster() / geometry.l2_entry_size();
    // Two L2 tables where that is small, a few clusters where it is not.
    if (geometry.cluster_bits <= 12)
        return (entries + 64) * geometry.cluster();
    return (geometry.cluster_bits <= 16 ? 26 : 8) * geometry.cluster();
}

void View::set(std::uint64_t sector, std::uint64_t count, Want w)
{
    std::uint64_t end = std::min<std::uint64_t>(sector + count, want.size());
    for (std::uint64_t s = sector; s < end; s++)
        want[s] = w;
}

Image::Image(const Geometry &geometry) : geo_(geometry)
{
    view.bytes.resize(guest_size(geometry));
    view.want.assign(view.bytes.size() / sector_size, Want::exact);
    next_ = l2(l2_tables());
    bytes.resize(next_);
    write_header();
    write_tables();
    write_guest();
    free_cluster_ = allocate();
    fill_pattern({bytes.data() + free_cluster_, cluster()}, noise_tag);
    set_refcount(free_cluster_, 0);
    if (geo_.snapshot)
        write_snapshot();
    used_end_ = bytes.size();
    if (geo_.block_device)
        bytes.resize(bytes.size() + block_device_slack * cluster());
}

std::uint64_t Image::l2_tables() const
{
    return (guest_clusters() + l2_entries() - 1) / l2_entries();
}

std::uint64_t Image::l2_entry(std::uint64_t guest_cluster) const
{
    return l2(guest_cluster / l2_entries()) + guest_cluster % l2_entries() * geo_.l2_entry_size();
}

std::uint64_t Image::data(std::uint64_t guest_cluster) const
{
    std::uint64_t offset = get<std::uint64_t>(l2_entry(guest_cluster)) & offset_mask;
    if (offset == 0)
        throw std::logic_error("guest cluster " + std::to_string(guest_cluster) + " has no data");
    return offset;
}

std::uint64_t Image::allocate()
{
    std::uint64_t offset = next_;
    next_ += cluster();
    bytes.resize(next_);
    set_refcount(offset, 1);
    return offset;
}

void Image::write_header()
{
    put32(h_magic, magic);
    put32(h_version, geo_.version);
    put32(h_cluster_bits, geo_.cluster_bits);
    put64(h_size, view.bytes.size());
    put32(h_l1_size, l2_tables());
    put64(h_l1_offset, l1());
    put64(h_reftable_offset, reftable());
    put32(h_reftable_clusters, 1);
    extension_end_ = h_v2_end;
    if (geo_.version >= 3) {
        if (geo_.extended)
            put64(h_incompatible, incompat_extended_l2);
        put32(h_refcount_order, geo_.refcount_order);
        put32(h_header_length, h_v3_end);
        extension_end_ = h_v3_end;
    }
}

void Image::write_tables()
{
    put64(reftable(), refblock());
    for (std::uint64_t at = 0; at < l2(l2_tables()); at += cluster())
        set_refcount(at, 1);
    if (!geo_.snapshot) {
        set_refcount(snapshot_table(), 0);
        set_refcount(snapshot_l1(), 0);
    }
    for (std::uint64_t i = 0; i < l2_tables(); i++)
        put64(l1_entry(i), l2(i) | copied);
}

void Image::write_guest()
{
    for (std::uint64_t k = 0; k < guest_clusters(); k++) {
        Kind kind = kind_of(k % l2_entries(), geo_.version >= 3);
        if (kind == Kind::hole)
            continue;
        if (kind == Kind::zero) {
            put64(geo_.extended ? l2_entry(k) + entry_size : l2_entry(k), geo_.extended ? all_zeros : zero_flag);
            continue;
        }
        const bool zero = kind == Kind::prealloc_zero;
        std::uint64_t offset = allocate();
        fill_pattern({bytes.data() + offset, cluster()}, k + 1);
        put64(l2_entry(k), offset | copied | (zero && !geo_.extended ? zero_flag : 0));
        if (!zero)
            want_bytes_of(k, offset);
        if (geo_.extended)
            write_extended(k, zero ? all_zeros : k && k % mixed_cluster == 0 ? mixed_bits : all_data);
    }
}

// The second word of an entry; what its bits do not call data reads as zeros.
void Image::write_extended(std::uint64_t guest_cluster, std::uint64_t bits)
{
    const std::uint64_t size = cluster() / subclusters;
    put64(l2_entry(guest_cluster) + entry_size, bits);
    for (std::uint64_t i = 0; i < subclusters; i++) {
        auto at = place(view.bytes, guest_cluster * cluster() + i * size);
        if (!(bits >> i & 1))
            std::fill(at, at + static_cast<Bytes::difference_type>(size), 0);
    }
}

// One snapshot that shares every table and cluster with the active state.
void Image::write_snapshot()
{
    put32(h_nb_snapshots, 1);
    put64(h_snapshots_offset, snapshot_table());
    std::uint64_t at = snapshot_table();
    put64(at + s_l1_offset, snapshot_l1());
    put32(at + s_l1_size, l2_tables());
    put16(at + s_id_size, 1);
    put16(at + s_name_size, 4);
    put32(at + s_extra_size, 16);
    put64(at + s_extra + 8, view.bytes.size());
    const std::string text = "1base";
    std::copy(text.begin(), text.end(), place(bytes, at + s_extra + 16));
    for (std::uint64_t i = 0; i < l2_tables(); i++) {
        put64(snapshot_l1() + i * entry_size, l2(i));
        put64(l1_entry(i), l2(i));
        set_refcount(l2(i), 2);
    }
    for (std::uint64_t k = 0; k < guest_clusters(); k++) {
        auto entry = get<std::uint64_t>(l2_entry(k));
        if ((entry & offset_mask) == 0)
            continue;
        put64(l2_entry(k), entry & ~copied);
        set_refcount(entry & offset_mask, 2);
    }
}

void Image::set_refcount(std::uint64_t host_offset, std::uint64_t value)
{
    put_refcount(bytes, refblock(), geo_.refcount_order, host_offset / cluster(), value);
}

std::uint64_t Image::refcount(std::uint64_t host_offset) const
{
    return get_refcount(bytes, refblock(), geo_.refcount_order, host_offset / cluster());
}

std::uint64_t Image::add_extension(std::uint32_t type, const Bytes &data)
{
    std::uint64_t at = extension_end_;
    if (at + 8 + data.size() > cluster())
        throw std::out_of_range("header extension does not fit");
    put32(at, type);
    put32(at + 4, data.size());
    std::copy(data.begin(), data.end(), place(bytes, at + 8));
    extension_end_ = at + 8 + (data.size() + 7) / 8 * 8;
    return at + 8;
}

void Image::set_header_length(std::uint32_t length)
{
    put32(h_header_length, length);
    extension_end_ = length;
}

void Image::truncate(std::uint64_t length)
{
    if (length > bytes.size())
        throw std::logic_error("truncate to " + std::to_string(length) + ": the image is shorter");
    bytes.resize(length);
}

void Image::want_cluster(std::uint64_t guest_cluster, Want want)
{
    view.set(guest_cluster * cluster() / sector_size, cluster() / sector_size, want);
}

void Image::want_l2(std::uint64_t index, Want want)
{
    std::uint64_t covered = l2_entries() * cluster() / sector_size;
    view.set(index * covered, covered, want);
}

void Image::want_all(Want want)
{
    view.set(0, view.sectors(), want);
}

void Image::want_zero(std::uint64_t guest_cluster)
{
    auto at = place(view.bytes, guest_cluster * cluster());
    std::fill(at, at + static_cast<Bytes::difference_type>(cluster()), 0);
    want_cluster(guest_cluster, Want::exact);
}

void Image::want_bytes_of(std::uint64_t guest_cluster, std::uint64_t host_offset)
{
    auto from = place(bytes, host_offset);
    std::copy(from, from + static_cast<Bytes::difference_type>(cluster()),
              place(view.bytes, guest_cluster * cluster()));
    want_cluster(guest_cluster, Want::exact);
}

} // namespace hostile
