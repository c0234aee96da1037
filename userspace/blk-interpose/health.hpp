// SPDX-License-Identifier: GPL-2.0-only
// Whether what is attached still does what it is for. Device-mapper goes on when a target has failed.
#pragma once

#include "dm/device.hpp"

#include <blk-interposer.h>

#include <optional>
#include <string>
#include <vector>

namespace liveblk::interpose {

struct Failure {
    std::string device; // its name
    std::string type;   // of its target
    std::string reason;
};

// What the status line of a target says of it, if it says that it has failed.
std::optional<std::string> failure_of(const dm::Target &status);

// Of all devices that the target of a pair, and whatever else is on the lower disk, is made of.
std::vector<Failure> failures_of(const blk_interposer_status &pair);

// For people.
std::string describe(const Failure &failure);

} // namespace liveblk::interpose
