// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/unique_fd.hpp"

#include <cstdint>
#include <string>

namespace liveblk::copy {

// Where to copy from or to: PATH or PATH:OFFSET.
struct Location {
    std::string path;
    std::uint64_t offset = 0;

    // An existing path may contain a colon: it is taken as it is.
    static Location parse(const std::string &text);
};

// An open block device and its size in bytes.
struct Device {
    UniqueFd fd;
    std::uint64_t size = 0;

    static Device open(const std::string &path, int flags);
};

} // namespace liveblk::copy
