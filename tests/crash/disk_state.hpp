// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "log_writes.hpp"
#include "plan.hpp"
#include "random.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace liveblk::crash {

// The content of the device that was logged, moved forward through the log.
class DiskState {
public:
    // Says of a write whether to leave it out: for proving that the checks would notice.
    using Omit = std::function<bool(const LogEntry &, std::span<const std::byte> data, const DiskState &)>;

    DiskState(const std::string &base_file, const WriteLog &log, std::uint64_t seed);

    void omit_writes(Omit omit) { omit_ = std::move(omit); }
    // From now on every write of stamped sectors damages its last sector in the middle.
    void tear_sectors() { tear_ = true; }
    // How many writes were left out or damaged for good.
    std::uint64_t omitted() const { return omitted_; }

    // For good.
    void apply(std::size_t entry);

    // What a crash at the point leaves, on top of what was applied; undone by undo().
    void apply_crash(const Window &window, const Point &point);
    void undo();

    std::span<const std::byte> bytes() const { return bytes_; }

private:
    struct Saved {
        std::uint64_t offset;
        std::vector<std::byte> bytes;
    };

    void apply_sectors(std::size_t index, const std::function<bool(std::size_t)> &takes);
    void apply_torn(std::size_t index, test::Random &random);
    std::vector<std::byte> content(const LogEntry &entry);
    bool discard_erases(std::size_t index) const;
    void put(std::uint64_t offset, std::span<const std::byte> data);

    const WriteLog &log_;
    std::uint64_t seed_;
    std::vector<std::byte> bytes_;
    std::vector<Saved> saved_;
    bool saving_ = false;
    Omit omit_;
    bool tear_ = false;
    std::uint64_t omitted_ = 0;
};

} // namespace liveblk::crash
