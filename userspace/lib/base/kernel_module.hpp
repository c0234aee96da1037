// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/unique_fd.hpp"

#include <string>

namespace liveblk {

// Loads a kernel module. Returns why that failed, in words for the user, or an empty string.
std::string load_module(const std::string &name);

// Opens a module's control device for reading and writing. If it is not there the module is loaded; an error says why
// that was not possible.
UniqueFd open_module_device(const std::string &path, const std::string &module);

} // namespace liveblk
