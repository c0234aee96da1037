// SPDX-License-Identifier: GPL-2.0-only
// The tables of a live device, and how one takes the place of another.
#pragma once

#include "base/unique_fd.hpp"
#include "dm/device.hpp"
#include "dm/table.hpp"
#include "qcow2/header.hpp"

#include <optional>
#include <string>
#include <vector>

namespace liveblk::live {

// What a new table is loaded with, open: the files of the image and of those below.
struct TableFiles {
    UniqueFd image;
    UniqueFd data; // if it is external
    std::vector<UniqueFd> backing;
};

TableFiles open_files(const dm::Qcow2Table &table, UniqueFd image);

// For the next resume.
void load(const dm::Device &device, const dm::Qcow2Table &table, const TableFiles &files);

std::optional<dm::Qcow2Table> table_or_nothing(const std::vector<dm::Target> &table, const std::string &name);

// Sees to it that the next resume is with a table, as it fits its image, whose header has been read: the size of a
// device is that of its table, and an image that needs a repair can only be read. Returns whether that is loaded for
// it.
bool fit_table(const dm::Device &device, dm::Qcow2Table wanted, const qcow2::Header &header, const TableFiles &files);

} // namespace liveblk::live
