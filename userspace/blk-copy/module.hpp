// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "unique_fd.hpp"

#include <string>

namespace liveblk::copy {

// Loads a kernel module; whether that was possible shows when it is used.
void load_module(const std::string &name);

// Opens a module's control device, loading the module if the device is not there.
UniqueFd open_control(const std::string &path, const std::string &module);

} // namespace liveblk::copy
