// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/error.hpp"
#include "base/unique_fd.hpp"

#include <fcntl.h>

#include <string>

namespace liveblk {

// Throws Error with the path and the reason.
inline UniqueFd open_or_fail(const std::string &path, int flags)
{
    UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
    if (!fd)
        fail_errno(fmt::format("open '{}'", path));
    return fd;
}

} // namespace liveblk
