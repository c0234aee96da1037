// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "disk.hpp"

#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace liveblk::unit::txn {

// What the guest has written, and when, and so what a sector may be found to hold. Each write of a sector is a version
// of it with content of its own; version 0 is there from the beginning.
class GuestLog {
public:
    GuestLog(unsigned cluster_bits, std::uint64_t sectors)
        : sectors_per_cluster_((1U << cluster_bits) / sector_bytes), sectors_(sectors)
    {
    }

    // A write or unmap that has begun.
    struct Change {
        std::uint64_t first = 0;
        std::uint64_t start = 0;
        std::vector<std::uint32_t> versions; // one for each sector
    };

    // Version 0 of a cluster is one that was never written, or data in one of its sectors.
    void begin_with(std::uint64_t number) { cluster(number); }
    void begin_with_data(std::uint64_t number, std::uint64_t sector_in_it);
    Change begin(std::uint64_t first, std::uint64_t count, bool zeros);
    void end(const Change &change, bool done);

    // Moments, so that it can be said what came first.
    std::uint64_t now() { return ++clock_; }

    // What is wrong with @found in a sector, if everything that was over before @since is to be there; empty: nothing.
    std::string judge(std::uint64_t sector, const Sector *found, std::uint64_t since) const;

    // What an image holds is all there is from now on.
    void begin_anew_with(std::uint64_t sector, const Sector *found);

    static Sector content(std::uint64_t sector, std::uint32_t version);

    struct Version {
        bool zeros;
        std::uint64_t start;
        std::uint64_t end;  // it was over then
        std::uint64_t gone; // another that began after its end was done then
    };
    // Clusters that were ever anything but a hole, with the versions of each sector.
    using Clusters = std::map<std::uint64_t, std::vector<std::vector<Version>>>;
    const Clusters &clusters() const { return clusters_; }

    std::uint64_t sectors_in(std::uint64_t cluster) const;
    unsigned sectors_per_cluster() const { return sectors_per_cluster_; }

private:
    static constexpr std::uint64_t never = std::numeric_limits<std::uint64_t>::max();
    std::vector<std::vector<Version>> &cluster(std::uint64_t number);
    std::vector<Version> &sector(std::uint64_t number);

    unsigned sectors_per_cluster_;
    std::uint64_t sectors_;
    std::uint64_t clock_ = 0;
    Clusters clusters_;
};

} // namespace liveblk::unit::txn
