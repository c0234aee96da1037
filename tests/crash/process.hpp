// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <string>
#include <vector>

namespace liveblk::crash {

struct ProcessResult {
    int status = 0; // exit status; 128 + number when a signal ended it
    std::string output;
};

// Runs a program to its end; its output, errors included, is collected.
ProcessResult run_process(const std::vector<std::string> &command);

// The same, for programs that have to succeed.
void run_or_throw(const std::vector<std::string> &command);

} // namespace liveblk::crash
