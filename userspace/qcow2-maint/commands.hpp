// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <CLI/CLI.hpp>

#include <functional>

namespace liveblk::maint {

// What was asked for on the command line; returns the exit status.
using Action = std::function<int()>;

inline constexpr int status_done = 0;
inline constexpr int status_failed = 1;
inline constexpr int status_usage = 2;

// Of check, the same as those of qemu-img check.
inline constexpr int status_corrupt = 2;
inline constexpr int status_leaks = 3;
inline constexpr int status_not_supported = 63;

// Each adds a subcommand, which sets the action when it is parsed.
void add_info(CLI::App &app, Action &action);
void add_check(CLI::App &app, Action &action);
void add_snapshot(CLI::App &app, Action &action);
void add_resize(CLI::App &app, Action &action);
void add_attach(CLI::App &app, Action &action);
void add_detach(CLI::App &app, Action &action);
void add_resume(CLI::App &app, Action &action);

} // namespace liveblk::maint
