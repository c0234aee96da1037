// SPDX-License-Identifier: GPL-2.0-only
// Each subcommand adds itself to the parser, and sets what is to be done if it was chosen.
#pragma once

#include "health.hpp"
#include "interposition.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <functional>
#include <string>

namespace liveblk::interpose {

using Action = std::function<void()>;

void add_create(CLI::App &app, Action &action);
void add_remove(CLI::App &app, Action &action);
void add_list(CLI::App &app, Action &action);
void add_status(CLI::App &app, Action &action);
void add_snapshot(CLI::App &app, Action &action);
void add_track(CLI::App &app, Action &action);
void add_changes(CLI::App &app, Action &action);

// The device that a snapshot's original is attached to.
std::string origin_name(const std::string &snapshot);

nlohmann::ordered_json as_json(const std::vector<Failure> &failures);

// Prints what was done: a sentence, or JSON.
void report(bool json, const char *verb, const std::string &name, const std::string &original, const Times &times);

} // namespace liveblk::interpose
