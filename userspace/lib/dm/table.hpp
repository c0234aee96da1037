// SPDX-License-Identifier: GPL-2.0-only
// The table of a dm-qcow2 device; Documentation/dm-qcow2.rst has its grammar.
#pragma once

#include "dm/device.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace liveblk::dm {

// An image below another one.
struct Below {
    std::string format;
    std::string image; // its path

    bool operator==(const Below &) const = default;
};

struct Qcow2Table {
    std::uint64_t sectors = 0;          // of 512 bytes
    std::string image;                  // its path, without the backslashes of a table
    std::vector<std::string> arguments; // all but those for other images
    std::string data_file;              // the path of the external one, or empty
    std::vector<Below> backing;         // nearest first

    bool operator==(const Qcow2Table &) const = default;
    bool read_only() const { return has("read_only"); }
    bool has(std::string_view argument) const;
    std::vector<std::string> paths() const; // of all images and the data file
    // The same with another image on top, for which the present one is the nearest below.
    Qcow2Table under(const std::string &top) const;
    // With descriptors for the image, each one below and the data file: libdevmapper doubles backslashes, so that no
    // path with a blank can be passed.
    Target with_fds(int fd, const std::vector<int> &backing_fds, int data_fd, std::uint64_t sectors) const;
};

inline constexpr const char *qcow2_target = "qcow2";

// Words of a table's parameters, apart at blanks that no backslash precedes.
std::vector<std::string> split_words(std::string_view params);

bool is_qcow2(const std::vector<Target> &table);
// Throws if the table is not one of dm-qcow2; the device's name is for the message.
Qcow2Table parse_qcow2(const std::vector<Target> &table, const std::string &device);

} // namespace liveblk::dm
