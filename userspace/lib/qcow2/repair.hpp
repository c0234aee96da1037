// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/error.hpp"
#include "base/progress.hpp"
#include "qcow2/check.hpp"
#include "qcow2/edit.hpp"
#include "qcow2/image.hpp"

namespace liveblk::qcow2 {

enum class Repair { nothing, leaks, all };

struct RepairResult {
    CheckReport found;            // before
    CheckReport left;             // after; the same if there was nothing to repair
    std::uint64_t given_back = 0; // bytes of the host
};

// Checks, repairs what was asked for, as one edit, and checks again. A repair of everything that leaves no corruption
// makes the image usable again: the dirty and the corrupt bit are cleared. If nothing is wrong in the end, the host
// gets back what is free.
RepairResult check_and_repair(Image &image, Repair repair, Progress &progress);

// What QEMU does when it opens an image that was not closed cleanly; refuses one that is corrupt. Returns whether there
// was anything to do.
bool make_consistent(Image &image, Progress &progress, Touches touches = Touches::everything);

// Makes an image consistent and calls edit(), which has nothing to refuse but what only a look at all of the image
// shows. If it does, the message says that the image was changed nevertheless.
template <typename EditFunction>
void edit_consistently(Image &image, Progress &progress, EditFunction edit, Touches touches = Touches::everything)
{
    const bool repaired = make_consistent(image, progress, touches);
    try {
        edit();
    } catch (const Error &e) {
        if (repaired)
            fail("{}; but the image, which had not been closed cleanly, has been repaired", e.what());
        throw;
    }
}

} // namespace liveblk::qcow2
