// SPDX-License-Identifier: GPL-2.0-only
// Work that the kernel may hang is done in a child; the parent sees that no step takes too long.
#pragma once

#include <functional>
#include <string>

namespace hostile {

// Runs the work in a child and returns its exit status. A step that takes longer than this many
// seconds is named on standard error, with the kernel's list of blocked tasks in the log, and
// gives status 1 without waiting for the child, which may be beyond signals.
int run_watched(unsigned seconds, const std::function<int()> &work);

// Within the work: the next step begins.
void begin_step(const std::string &name);

} // namespace hostile
