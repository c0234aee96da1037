// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/unique_fd.hpp"
#include "range.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace liveblk::test {

// A shared mapping of a whole file, or memory of no file.
class Mapping {
public:
    Mapping() = default;
    Mapping(int fd, std::size_t size);
    Mapping(Mapping &&other) noexcept;
    Mapping &operator=(Mapping &&other) noexcept;
    Mapping(const Mapping &) = delete;
    Mapping &operator=(const Mapping &) = delete;
    ~Mapping();

    std::byte *data() const { return data_; }

private:
    std::byte *data_ = nullptr;
    std::size_t size_ = 0;
};

// What a device must hold: a sparse raw file, and which of its sectors are in doubt. A sector in doubt
// holds either what the model says or zeros, and the first read decides.
// Callers keep ranges apart with a RangeLock; only neighbours share words, which are atomic.
class Model {
public:
    // Opens path, or makes it, all zeros, when it does not exist.
    Model(const std::string &path, std::uint64_t size);

    bool created() const { return created_; }
    std::uint64_t size() const { return size_; }
    std::span<const std::byte> data(Range range) const;

    void write(Range range, std::span<const std::byte> data);
    void zero(Range range);

    // Makes what is at destination what source is, doubts included; the two do not overlap.
    void copy(Range source, std::uint64_t destination);

    // Each sector is from now on what it was or zeros.
    void doubt(Range range);
    bool in_doubt(Range range) const;

    // Compares what was read, deciding doubts; gives the offset of the first wrong sector.
    std::optional<std::uint64_t> check(Range range, std::span<const std::byte> seen);

    // Says which sectors of what was read are not as in the model, as runs of sectors.
    std::string differences(Range range, std::span<const std::byte> seen) const;

    // After a failed write of what: each sector is old or new, and becomes what was seen.
    std::optional<std::uint64_t> adopt(Range range, std::span<const std::byte> seen, std::span<const std::byte> what);

    // The parts of the file that may hold anything but zeros.
    std::vector<Range> extents() const;

private:
    std::optional<std::uint64_t> check_sectors(Range range, std::span<const std::byte> seen);
    bool doubtful(std::uint64_t sector) const;
    void settle(Range range);

    std::string path_;
    std::uint64_t size_;
    bool created_ = false;
    UniqueFd fd_;
    Mapping content_;
    Mapping doubts_;
};

} // namespace liveblk::test
