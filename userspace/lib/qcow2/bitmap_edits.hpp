// SPDX-License-Identifier: GPL-2.0-only
// What is done to persistent bitmaps, as qemu-img bitmap does it.
//
// New tables and a new directory are written first, and counted by an edit; then the header comes to name the
// directory; then another edit gives back what it has replaced. A crash between these leaves clusters that are counted
// and not used (leaks) at worst, and the bitmaps as they were or as they were to become.
#pragma once

#include "base/progress.hpp"
#include "qcow2/bitmaps.hpp"

#include <cstdint>
#include <string>

namespace liveblk::qcow2 {

struct NewBitmap {
    std::string name;
    std::uint64_t granularity = 0;
    bool enabled = true;
};

// What QEMU takes if nobody says anything: the size of a cluster, but 4 KiB to 64 KiB.
std::uint64_t default_granularity(const Image &image);

// Refuses what add_bitmap() would.
void check_new_bitmap(const Image &image, const NewBitmap &bitmap);

void add_bitmap(Image &image, const NewBitmap &bitmap, Progress &progress);
void remove_bitmap(Image &image, const std::string &name, Progress &progress);
// Has it say that nothing has changed.
void clear_bitmap(Image &image, const std::string &name, Progress &progress);
// Whether it records what changes.
void enable_bitmap(Image &image, const std::string &name, bool enable, Progress &progress);
// Adds what is set in another, of any granularity, for a disk of the same size.
void merge_into_bitmap(Image &image, const std::string &name, const Bits &source, Progress &progress);

} // namespace liveblk::qcow2
