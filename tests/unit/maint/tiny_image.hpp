// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "qcow2/refcount_block.hpp"
#include "raw_format.hpp"
#include "scratch.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace liveblk::unit {

// An image of 8 clusters of 4 KiB, made by hand: header, refcount table, refcount block, L1, L2, three of data.
class TinyImage {
public:
    static constexpr std::uint64_t cluster = 4096;

    TinyImage() : bytes_(8 * cluster)
    {
        header.magic = qcow2::magic;
        header.version = 3;
        header.cluster_bits = 12;
        header.size = 8 * cluster;
        header.l1_size = 1;
        header.l1_table_offset = 3 * cluster;
        header.refcount_table_offset = cluster;
        header.refcount_table_clusters = 1;
        header.refcount_order = 4;
        header.header_length = qcow2::v3_header_length;
        put(cluster, 2 * cluster);
        for (std::uint64_t i = 0; i < 8; i++)
            set_refcount(i, 1);
        put(3 * cluster, 4 * cluster | qcow2::flag_copied);
        for (std::uint64_t i = 0; i < 3; i++)
            set_l2(i, (5 + i) * cluster | qcow2::flag_copied);
        for (std::uint64_t i = 5 * cluster; i < 8 * cluster; i++)
            bytes_[i] = static_cast<std::byte>(i / cluster);
    }

    void put(std::uint64_t offset, std::uint64_t value) { store(std::span(bytes_), offset, Be64(value)); }
    void set_l2(std::uint64_t index, std::uint64_t entry) { put(4 * cluster + 8 * index, entry); }
    void set_refcount(std::uint64_t index, std::uint64_t value)
    {
        qcow2::refcount_set(std::span(bytes_).subspan(2 * cluster, cluster), index, 4, value);
    }
    std::vector<std::byte> bytes() const
    {
        auto all = bytes_;
        store(std::span(all), 0, header);
        return all;
    }
    std::string save(const Scratch &scratch) const
    {
        const std::string path = scratch.file("tiny.qcow2");
        write_file(path, bytes());
        return path;
    }

    qcow2::RawHeader header;

private:
    std::vector<std::byte> bytes_;
};

} // namespace liveblk::unit
