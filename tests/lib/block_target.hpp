// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/unique_fd.hpp"
#include "copier.hpp"
#include "range.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace liveblk::test {

// The block device under test; a regular file will do for testing the tests.
class BlockTarget {
public:
    explicit BlockTarget(const std::string &path);

    const std::string &path() const { return path_; }
    std::uint64_t size() const { return size_; }
    bool is_device() const { return is_device_; }
    bool has_direct() const { return static_cast<bool>(direct_); }
    int fd(bool direct) const { return direct ? direct_.get() : buffered_.get(); }

    // These return 0 or the errno.
    int discard(Range range) const;
    int zero_out(Range range) const;
    int allocate(int mode, Range range) const;
    int flush() const;

    // Lets copy() be used. On a regular file it reads and writes.
    void enable_copies();
    copy::Outcome copy(Range source, std::uint64_t destination, copy::Emulate emulate) const;

    // Brings what the page cache holds of a range to the device, without a flush.
    int write_back(Range range) const;

    // Writes back and forgets what the page cache holds.
    void drop_cache() const;

private:
    std::string path_;
    UniqueFd buffered_;
    UniqueFd direct_;
    std::uint64_t size_ = 0;
    bool is_device_ = false;
    std::optional<copy::Copier> copier_;
};

} // namespace liveblk::test
