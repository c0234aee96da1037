// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/command.hpp"

namespace liveblk::maint {

// Of check, the same as those of qemu-img check.
inline constexpr int status_corrupt = 2;
inline constexpr int status_leaks = 3;
inline constexpr int status_not_supported = 63;

// Each adds a subcommand.
void add_info(Command root);
void add_check(Command root);
void add_snapshot(Command root);
void add_bitmap(Command root);
void add_resize(Command root);
void add_attach(Command root);
void add_detach(Command root);
void add_resume(Command root);

} // namespace liveblk::maint
