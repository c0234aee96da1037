// SPDX-License-Identifier: GPL-2.0-only
#include "bitmap_list.hpp"

#include "qcow2/header.hpp"
#include "text.hpp"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <string>

namespace liveblk::maint {
namespace {

// As qemu-img info has them.
std::vector<std::string> flags_of(const qcow2::Bitmap &b)
{
    std::vector<std::string> flags;
    if (b.in_use())
        flags.emplace_back("in-use");
    if (b.enabled())
        flags.emplace_back("auto");
    return flags;
}

} // namespace

Json bitmaps_as_json(const std::vector<qcow2::Bitmap> &bitmaps)
{
    Json list = Json::array();
    for (const qcow2::Bitmap &b : bitmaps)
        list.push_back({{"name", b.name}, {"granularity", b.granularity()}, {"flags", flags_of(b)}});
    return list;
}

void print_bitmaps(const std::vector<qcow2::Bitmap> &bitmaps)
{
    fmt::print("{:<40} {:>12} {}\n", "NAME", "GRANULARITY", "FLAGS");
    for (const qcow2::Bitmap &b : bitmaps)
        fmt::print("{:<40} {:>12} {}\n", qcow2::printable(b.name), human_size(b.granularity()),
                   fmt::join(flags_of(b), " "));
}

} // namespace liveblk::maint
