// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/command.hpp"

namespace liveblk::copy {

// What the program does without a subcommand.
void add_copy(Command root);
// Each adds a subcommand.
void add_loop(Command root);
void add_null(Command root);

} // namespace liveblk::copy
