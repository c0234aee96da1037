// SPDX-License-Identifier: GPL-2.0-only
// Which file systems a transition has to freeze.
#pragma once

#include "base/unique_fd.hpp"

#include <string>
#include <vector>

namespace liveblk::interpose {

// One file of each mounted file system, in whichever mount namespace, that the module does not find by the device or
// by one of its partitions: a btrfs; and where the device is itself the target of another one, whatever is on that one.
std::vector<UniqueFd> unlisted_filesystems(const std::string &device);

} // namespace liveblk::interpose
