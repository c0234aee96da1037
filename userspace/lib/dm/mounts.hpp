// SPDX-License-Identifier: GPL-2.0-only
// What is mounted, in whichever mount namespace.
#pragma once

#include "base/unique_fd.hpp"
#include "dm/sysfs.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace liveblk::stack {

struct Mount {
    std::uint64_t id = 0;    // one number for all namespaces
    DeviceNumber device = 0; // of its files; one with major number 0 is no block device
    std::string prefix;      // the root of a process that sees it, "" for this one
    std::string point;       // as that process sees it
    std::string type;
    std::string source;
    std::vector<std::string> options; // of the file system, "NAME" or "NAME=VALUE", still escaped

    // For this process.
    std::string path() const { return prefix + point; }
    bool has(std::string_view option) const;
    // Values of all options of that name, unescaped.
    std::vector<std::string> values(std::string_view option) const;
};

// One line of mountinfo; nothing if it cannot be read.
std::optional<Mount> parse_mount(const std::string &line, const std::string &prefix);

// Those of this process come first. Others may not be visible to it, and are as soon as one process sees them.
std::vector<Mount> all_mounts();

// Of the file that a path or a link in /proc names; 0 if that is not known.
std::uint64_t mount_id(const std::string &path);

// The root of the mount, unless something else lies on top of it; or no descriptor.
UniqueFd open_mount(const Mount &mount);

// Devices of a mounted file system; of a file system on several they are all there, as far as that is known.
std::vector<DeviceNumber> devices_of(const Mount &mount);

// Octal numbers, for characters that would be taken for something else.
std::string unescape(std::string_view text);

} // namespace liveblk::stack
