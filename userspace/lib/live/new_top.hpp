// SPDX-License-Identifier: GPL-2.0-only
// Snapshots outside of an image: a live device gets a new image on top, and what it had is written no more.
#pragma once

#include "live/session.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace liveblk::live {

struct NewTop {
    std::string path;                          // of a file that is not there yet
    std::optional<std::uint64_t> cluster_size; // that of the present image if it is not given
};

struct Frozen {
    std::string path;                 // of the image that was on top, now below
    std::string top;                  // of the new one
    std::vector<std::string> bitmaps; // of the frozen image, which have recorded until now
    Pause pause;
};

// Makes an empty image of the size of the device, which names the present one as its backing file, and puts it on top
// in one suspend. Until then all is undone after an error or a signal, and the new file is taken away; so it is if this
// process dies while the device is suspended.
Frozen put_on_top(const dm::Device &device, const NewTop &wanted);

} // namespace liveblk::live
