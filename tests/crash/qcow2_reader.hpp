// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "on_disk.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace liveblk::crash {

// Reads the guest's view out of the bytes of an image: small, and sharing nothing with the code under test.
// No backing file, no compression, no encryption: the crash workloads use none.
class Qcow2Reader {
public:
    explicit Qcow2Reader(std::span<const std::byte> image);

    std::uint64_t size() const { return size_; }
    std::uint64_t cluster_size() const { return std::uint64_t{1} << cluster_bits_; }
    bool dirty() const { return incompatible_ & 1; }

    // The 512 bytes of a sector; empty means that it reads as zeros.
    std::span<const std::byte> sector(std::uint64_t number) const { return sector_of(active_l1_, number); }
    std::span<const std::byte> snapshot_sector(const std::string &name, std::uint64_t number) const;
    bool has_snapshot(const std::string &name) const;

    // Where metadata lies, in bytes; for finding out what a write was for.
    bool is_refcount_block(std::uint64_t offset) const;
    bool is_l2_table(std::uint64_t offset) const;

private:
    struct L1 {
        std::uint64_t offset;
        std::uint32_t entries;
    };
    struct Snapshot {
        std::string name;
        L1 l1;
    };

    void read_snapshots(std::uint64_t offset, std::uint32_t count);
    std::span<const std::byte> sector_of(const L1 &l1, std::uint64_t number) const;
    std::uint64_t entry(std::uint64_t table, std::uint64_t index) const;
    bool table_points_at(std::uint64_t table, std::uint64_t entries, std::uint64_t offset) const;

    std::span<const std::byte> image_;
    std::uint32_t cluster_bits_ = 0;
    std::uint32_t version_ = 0;
    std::uint64_t size_ = 0;
    std::uint64_t incompatible_ = 0;
    L1 active_l1_{};
    std::uint64_t refcount_table_ = 0;
    std::uint64_t refcount_table_entries_ = 0;
    std::vector<Snapshot> snapshots_;
};

} // namespace liveblk::crash
