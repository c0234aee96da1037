// SPDX-License-Identifier: GPL-2.0-only
// A device for a target's own use, on a file or a block device of the user's.
#pragma once

#include "base/unique_fd.hpp"

#include <cstdint>
#include <string>

namespace liveblk::interpose {

// A block device as it is; or a loop device on a file, which goes away with its last user. A file that is not there is
// created, sparse. The beginning is cleared, so that nothing old is taken for metadata.
class BackingDevice {
public:
    // The original is for the refusal of files on it, which would wait for themselves.
    BackingDevice(const std::string &path, std::uint64_t bytes_if_new, const std::string &original);

    const std::string &device() const { return device_; }

private:
    void attach_loop(const std::string &path);
    void clear() const;

    std::string device_;
    UniqueFd loop_; // keeps the loop device until a target has it open
};

} // namespace liveblk::interpose
