// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/json.hpp"
#include "live/session.hpp"

#include <optional>
#include <string>

namespace liveblk::maint {

inline constexpr const char *target_help = "a QCOW2 image, a file or a block device; or a live device, NAME or "
                                           "/dev/mapper/NAME";

// Opens the image of a file for writing, or suspends its live device, and works.
// judge() is asked before a device is suspended. Returns the pause of a live device.
std::optional<live::Pause> edit_target(const std::string &argument, const live::Work &judge, const live::Work &work);

// The same for what is done to files only.
void edit_file(const std::string &path, const live::Work &work);

// "vm1 was paused for 12.3 ms", if it was.
void print_pause(const std::optional<live::Pause> &pause);
void add_pause(Json &json, const std::optional<live::Pause> &pause);
// As the command line asks for it.
void report(bool as_json, Json json, const std::optional<live::Pause> &pause);

} // namespace liveblk::maint
