// SPDX-License-Identifier: GPL-2.0-only
// File systems that the kernel does not find by their block device.
#pragma once

#include "unique_fd.hpp"

#include <string>
#include <vector>

namespace liveblk::interpose {

// btrfs is not known to the block device that it is on, so that the kernel module cannot freeze it. While this lives,
// each btrfs that is mounted from the device, or from a partition of it, is frozen. A btrfs of several devices is found
// by the one that its mount names.
class FrozenFilesystems {
public:
    explicit FrozenFilesystems(const std::string &device);
    FrozenFilesystems(const FrozenFilesystems &) = delete;
    FrozenFilesystems &operator=(const FrozenFilesystems &) = delete;
    ~FrozenFilesystems();

private:
    void thaw() noexcept;

    std::vector<UniqueFd> frozen_;
};

} // namespace liveblk::interpose
