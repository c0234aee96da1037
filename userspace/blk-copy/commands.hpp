// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <CLI/CLI.hpp>

#include <functional>

namespace liveblk::copy {

// What is to be done once the arguments are parsed.
using Action = std::function<void()>;

// Each adds its arguments to the program and sets the action when they are given.
void add_copy(CLI::App &app, Action &action);
void add_loop(CLI::App &app, Action &action);
void add_null(CLI::App &app, Action &action);

} // namespace liveblk::copy
