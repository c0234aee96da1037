// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "history.hpp"

#include <cstdint>
#include <string>

namespace liveblk::crash {

struct FileOptions {
    std::string directory;
    std::string log_device;
    std::uint64_t seed = 1;
    std::size_t files = 40;
    std::uint64_t largest = 131072;
    unsigned fsync_percent = 40;
};

// Writes files into a mounted file system, fsyncs some, and marks the log when a file's content is promised.
History run_file_workload(const FileOptions &options);

} // namespace liveblk::crash
