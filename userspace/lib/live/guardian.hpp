// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/unique_fd.hpp"

#include <sys/types.h>

#include <functional>

namespace liveblk::live {

// A process beside this one that does what has to be done if this one ends before the guardian's life does, even by
// SIGKILL or a fault of its own. Begin it when signals are blocked: it takes no others.
class Guardian {
public:
    // begin() is called in the other process at once, rescue() if it comes to that.
    Guardian(const std::function<void()> &begin, const std::function<void()> &rescue);
    Guardian(const Guardian &) = delete;
    Guardian &operator=(const Guardian &) = delete;
    ~Guardian();

private:
    UniqueFd line_;
    pid_t process_ = 0;
};

} // namespace liveblk::live
