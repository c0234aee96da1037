// SPDX-License-Identifier: GPL-2.0-only
// Who uses the original: those of whom it is known that all of their I/O can be redirected.
#pragma once

#include "dm/mounts.hpp"

#include <optional>
#include <string>

namespace liveblk::interpose {

// Throws Error if somebody else uses it, or one of its partitions, or somebody that cannot be found.
void require_known_users(const std::string &original);

// Why a file system on it is none of these; the disk may be one with direct access.
std::optional<std::string> objection_to(const stack::Mount &mount, bool dax);

// Why a device of device-mapper on it is none of these.
std::optional<std::string> objection_to(const std::string &target_type);

} // namespace liveblk::interpose
