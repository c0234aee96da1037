// SPDX-License-Identifier: GPL-2.0-only
// The kernel log from a moment on, read in process.
#pragma once

#include "support.hpp"

namespace hostile {

class KernelLog {
public:
    KernelLog();

    // Forgets what was logged until now.
    void skip();
    // The texts of the records since the last call.
    std::vector<std::string> take();

private:
    Fd fd_;
};

// What a healthy kernel never says.
bool is_complaint(const std::string &line);

} // namespace hostile
