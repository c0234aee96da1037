// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "qcow2/format.hpp"
#include "qcow2/header.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace liveblk::qcow2 {

enum class ClusterType {
    unallocated = QCOW2_CLUSTER_UNALLOCATED,
    zero_plain = QCOW2_CLUSTER_ZERO_PLAIN,
    zero_allocated = QCOW2_CLUSTER_ZERO_ALLOC,
    normal = QCOW2_CLUSTER_NORMAL,
    compressed = QCOW2_CLUSTER_COMPRESSED,
    invalid = QCOW2_CLUSTER_INVALID,
};

// A run of host clusters.
struct Run {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
};

// How entries of this image are to be read.
class L2Format {
public:
    L2Format(const Header &header, std::uint64_t limit) : geometry_(header.geometry()), limit_(limit) {}

    // Words of 64 bits from one entry to the next.
    std::size_t stride() const { return extended() ? 2 : 1; }
    bool extended() const { return qcow2_extended_l2(&geometry_); }
    // With an external data file what entries point at is not in the image.
    bool data_is_counted() const { return !qcow2_data_file(&geometry_); }

    ClusterType type(std::uint64_t entry) const
    {
        const auto type = qcow2_l2_entry_type(&geometry_, entry, data_is_counted() ? limit_ : UINT64_MAX);
        if (type == QCOW2_CLUSTER_COMPRESSED && !qcow2_compressed_valid(&geometry_, entry, limit_))
            return ClusterType::invalid;
        return static_cast<ClusterType>(type);
    }

    // Whether the second word of an extended entry goes with its first one.
    bool subclusters_valid(std::uint64_t entry, std::uint64_t bitmap) const
    {
        return qcow2_subclusters_valid(&geometry_, entry, bitmap);
    }

    std::uint64_t cluster(std::uint64_t entry) const { return (entry & offset_mask) >> geometry_.cluster_bits; }

    // Host clusters that a compressed one has a share of.
    Run compressed_run(std::uint64_t entry) const
    {
        u32 count = 0;
        const std::uint64_t first = qcow2_compressed_run(&geometry_, entry, &count);
        return {first, count};
    }

private:
    qcow2_geometry geometry_;
    std::uint64_t limit_;
};

// Calls run(first, count) for host clusters in the image that a table refers to, consecutive ones at one go, and
// invalid(index) for entries that may not be followed.
template <typename OnRun, typename OnInvalid>
void for_each_run(const L2Format &format, std::span<const std::uint64_t> words, OnRun run, OnInvalid invalid)
{
    Run now;
    const auto flush = [&] {
        if (now.count)
            run(now.first, now.count);
        now.count = 0;
    };
    for (std::size_t i = 0; i < words.size(); i += format.stride()) {
        const std::uint64_t entry = words[i];
        if (entry == 0)
            continue;
        const ClusterType type = format.type(entry);
        if (type == ClusterType::normal || type == ClusterType::zero_allocated) {
            const std::uint64_t cluster = format.cluster(entry);
            if (now.count && cluster == now.first + now.count) {
                now.count++;
                continue;
            }
            flush();
            if (format.data_is_counted())
                now = {cluster, 1};
        } else if (type == ClusterType::compressed) {
            flush();
            const Run r = format.compressed_run(entry);
            run(r.first, r.count);
        } else if (type == ClusterType::invalid) {
            invalid(i / format.stride());
        }
    }
    flush();
}

} // namespace liveblk::qcow2
