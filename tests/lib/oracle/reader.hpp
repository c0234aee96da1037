// SPDX-License-Identifier: GPL-2.0-only
// The one reader of images that the tests have: what the guest sees, and where metadata lies. It shares nothing with
// the product, so that both are not wrong in the same way.
#pragma once

#include "oracle/format.hpp"

#include <string>
#include <vector>

namespace liveblk::oracle {

struct Table {
    std::uint64_t offset = 0;
    std::uint64_t entries = 0;
};

struct Snapshot {
    std::string name;
    Table l1;
    std::uint64_t end = 0; // of its entry in the snapshot table, where the next one begins
};

// What an entry of an L1 table says.
struct L2Place {
    bool valid = false;
    bool copied = false;
    std::uint64_t offset = 0; // 0: there is no L2 table
};

// What an entry of an L2 table says.
struct Mapping {
    enum class Kind : std::uint8_t { hole, zero, data, compressed, invalid };

    Kind kind = Kind::invalid;
    bool copied = false;
    std::uint64_t offset = 0; // of the host cluster; 0: there is none
    std::uint64_t data = 0;   // if that is data: a bit for each unit of it that is there

    bool reads_as_zeros() const { return kind == Kind::hole || kind == Kind::zero; }
};

// Throws std::out_of_range where the image ends too early, and std::runtime_error for what is no image.
class Reader {
public:
    explicit Reader(std::span<const std::byte> image);
    // With an external data file, which may be shorter than the disk.
    Reader(std::span<const std::byte> image, std::span<const std::byte> data);

    unsigned version() const { return version_; }
    std::uint64_t size() const { return size_; }
    std::uint64_t cluster_size() const { return std::uint64_t{1} << cluster_bits_; }
    bool extended() const { return incompatible_ & format::incompat_extended_l2; }
    std::uint64_t l2_entry_size() const { return extended() ? format::extended_entry_size : format::entry_size; }
    std::uint64_t l2_entries() const { return cluster_size() / l2_entry_size(); }
    // What an L2 entry says something of by itself: a cluster, or a subcluster.
    std::uint64_t unit() const { return cluster_size() / units(); }
    std::uint64_t units() const { return extended() ? format::subclusters : 1; }
    bool dirty() const { return incompatible_ & format::incompat_dirty; }
    // No feature that would change what the guest sees: no backing file, no encryption, no other kind of entries.
    bool plain() const;

    const Table &l1() const { return l1_; }
    const Table &refcount_table() const { return refcount_table_; }
    std::uint64_t refcount(std::uint64_t cluster) const;
    L2Place l2_place(const Table &l1, std::uint64_t index) const;
    Mapping mapping(std::uint64_t l2_table, std::uint64_t index) const;
    std::uint64_t entry(std::uint64_t table, std::uint64_t index) const;
    bool may_be_cluster(std::uint64_t offset) const;

    // The snapshot table, by hand or as a whole.
    std::uint64_t snapshot_count() const { return snapshot_count_; }
    std::uint64_t snapshot_table() const { return snapshot_table_; }
    Snapshot snapshot_at(std::uint64_t offset) const;
    std::vector<Snapshot> snapshots() const;

    // The 512 bytes of a sector; empty means that it reads as zeros.
    std::span<const std::byte> sector(const Table &l1, std::uint64_t number) const;
    std::span<const std::byte> sector(std::uint64_t number) const { return sector(l1_, number); }

    // For finding out what a write at this place was for.
    bool is_refcount_block(std::uint64_t offset) const { return table_points_at(refcount_table_, offset); }
    bool is_l2_table(std::uint64_t offset) const { return table_points_at(l1_, offset); }

private:
    bool table_points_at(const Table &table, std::uint64_t offset) const;

    std::span<const std::byte> image_;
    std::span<const std::byte> data_;
    bool external_ = false;
    unsigned version_ = 0;
    unsigned cluster_bits_ = 0;
    unsigned refcount_order_ = 4;
    std::uint64_t size_ = 0;
    std::uint64_t incompatible_ = 0;
    std::uint64_t backing_offset_ = 0;
    std::uint32_t crypt_method_ = 0;
    Table l1_;
    Table refcount_table_;
    std::uint64_t snapshot_count_ = 0;
    std::uint64_t snapshot_table_ = 0;
};

} // namespace liveblk::oracle
