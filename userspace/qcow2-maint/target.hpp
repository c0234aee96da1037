// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "live.hpp"

#include <nlohmann/json.hpp>

#include <optional>
#include <string>

namespace liveblk::maint {

inline constexpr const char *target_help = "a QCOW2 image, a file or a block device; or a live device, NAME or "
                                           "/dev/mapper/NAME";

// Opens the image of a file for writing, or suspends its live device, and works.
// judge() is asked before a device is suspended. Returns the pause of a live device.
std::optional<Pause> edit_target(const std::string &argument, const Work &judge, const Work &work);

// The same for what is done to files only.
void edit_file(const std::string &path, const Work &work);

// "vm1 was paused for 12.3 ms", if it was.
void print_pause(const std::optional<Pause> &pause);
void add_pause(nlohmann::ordered_json &json, const std::optional<Pause> &pause);
// As the command line asks for it.
void report(bool as_json, nlohmann::ordered_json json, const std::optional<Pause> &pause);

} // namespace liveblk::maint
