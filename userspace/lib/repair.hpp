// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "check.hpp"
#include "image.hpp"
#include "progress.hpp"

namespace liveblk::qcow2 {

enum class Repair { nothing, leaks, all };

struct RepairResult {
    CheckReport found; // before
    CheckReport left;  // after; the same if there was nothing to repair
};

// Checks, repairs what was asked for, as one edit, and checks again. A repair of everything that leaves no corruption
// makes the image usable again: the dirty and the corrupt bit are cleared.
RepairResult check_and_repair(Image &image, Repair repair, Progress &progress);

// What QEMU does when it opens an image that was not closed cleanly; refuses one that is corrupt.
void make_consistent(Image &image, Progress &progress);

} // namespace liveblk::qcow2
