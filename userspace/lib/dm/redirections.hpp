// SPDX-License-Identifier: GPL-2.0-only
// Where blk-interposer sends I/O.
#pragma once

#include "dm/sysfs.hpp"

#include <vector>

namespace liveblk::stack {

// What is sent to the original goes to the target, if there is one; what is sent to the lower disk, to the original.
struct Redirection {
    DeviceNumber original = 0;
    DeviceNumber lower = 0;
    DeviceNumber target = 0;
};

// None if the module is not loaded. Throws Error if it is and does not answer.
std::vector<Redirection> current_redirections();

} // namespace liveblk::stack
