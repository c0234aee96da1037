// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "format.hpp"
#include "header.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace liveblk::qcow2 {

enum class ClusterType { unallocated, zero_plain, zero_allocated, normal, compressed, invalid };

// A run of host clusters.
struct Run {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
};

// How entries of this image are to be read.
class L2Format {
public:
    L2Format(const Header &header, std::uint64_t limit)
        : cluster_bits_(header.cluster_bits),
          limit_(header.has_data_file() ? UINT64_MAX : limit),
          file_limit_(limit),
          version_(header.version),
          data_file_(header.has_data_file()),
          extended_(header.extended_l2())
    {
    }

    // Words of 64 bits from one entry to the next.
    std::size_t stride() const { return extended_ ? 2 : 1; }
    bool extended() const { return extended_; }
    // With an external data file what entries point at is not in the image.
    bool data_is_counted() const { return !data_file_; }

    ClusterType type(std::uint64_t entry) const
    {
        if (entry & flag_compressed)
            return compressed_fits(entry) ? ClusterType::compressed : ClusterType::invalid;
        const std::uint64_t offset = entry & offset_mask;
        const bool zero = entry & flag_zero;
        if ((entry & l2_reserved) || (zero && (version_ < 3 || extended_)))
            return ClusterType::invalid;
        // In a data file offset 0 is a cluster like any other, told by its COPIED flag.
        if (!offset && !(data_file_ && (entry & flag_copied))) {
            if (entry & flag_copied)
                return ClusterType::invalid;
            return zero ? ClusterType::zero_plain : ClusterType::unallocated;
        }
        if ((offset & ((1ULL << cluster_bits_) - 1)) || offset >= limit_)
            return ClusterType::invalid;
        return zero ? ClusterType::zero_allocated : ClusterType::normal;
    }

    std::uint64_t cluster(std::uint64_t entry) const { return (entry & offset_mask) >> cluster_bits_; }

    // Host clusters that a compressed one has a share of.
    Run compressed_run(std::uint64_t entry) const
    {
        const std::uint64_t first = compressed_offset(entry) >> cluster_bits_;
        return {first, ((compressed_end(entry) - 1) >> cluster_bits_) - first + 1};
    }

private:
    unsigned offset_bits() const { return 62 - (cluster_bits_ - 8); }
    std::uint64_t compressed_offset(std::uint64_t entry) const { return entry & ((1ULL << offset_bits()) - 1); }
    std::uint64_t compressed_end(std::uint64_t entry) const
    {
        const std::uint64_t more = (entry & ~(flag_copied | flag_compressed)) >> offset_bits();
        return (compressed_offset(entry) & ~(sector_size - 1)) + (more + 1) * sector_size;
    }
    bool compressed_fits(std::uint64_t entry) const
    {
        // Never in the header, which an edit would free with the data.
        return !data_file_ && compressed_offset(entry) >= 1ULL << cluster_bits_ &&
               compressed_offset(entry) < file_limit_ && compressed_end(entry) <= file_limit_;
    }

    unsigned cluster_bits_;
    std::uint64_t limit_;
    std::uint64_t file_limit_;
    std::uint32_t version_;
    bool data_file_;
    bool extended_;
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
