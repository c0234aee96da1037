// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/command.hpp"
#include "base/json.hpp"
#include "health.hpp"
#include "interposition.hpp"

#include <string>

namespace liveblk::interpose {

// Each adds a subcommand.
void add_create(Command root);
void add_remove(Command root);
void add_list(Command root);
void add_status(Command root);
void add_snapshot(Command root);
void add_track(Command root);
void add_changes(Command root);

// The device that a snapshot's original is attached to.
std::string origin_name(const std::string &snapshot);

Json as_json(const std::vector<Failure> &failures);

// Prints what was done: a sentence, or JSON.
void report(bool json, const char *verb, const std::string &name, const std::string &original, const Times &times);

} // namespace liveblk::interpose
