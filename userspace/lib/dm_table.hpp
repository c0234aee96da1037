// SPDX-License-Identifier: GPL-2.0-only
// The table of a dm-qcow2 device; Documentation/dm-qcow2.rst has its grammar.
#pragma once

#include "dm_device.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace liveblk::dm {

struct Qcow2Table {
    std::uint64_t sectors = 0; // of 512 bytes
    std::string image;         // its path, without the backslashes of a table
    std::vector<std::string> arguments;

    bool operator==(const Qcow2Table &) const = default;
    bool read_only() const { return has("read_only"); }
    bool has(std::string_view argument) const;
    // With the image as a descriptor: libdevmapper doubles backslashes, so that no path with a blank can be passed.
    Target with_fd(int fd, std::uint64_t sectors) const;
};

inline constexpr const char *qcow2_target = "qcow2";

// Words of a table's parameters, apart at blanks that no backslash precedes.
std::vector<std::string> split_words(std::string_view params);

bool is_qcow2(const std::vector<Target> &table);
// Throws if the table is not one of dm-qcow2; the device's name is for the message.
Qcow2Table parse_qcow2(const std::vector<Target> &table, const std::string &device);

} // namespace liveblk::dm
