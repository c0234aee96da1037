// SPDX-License-Identifier: GPL-2.0-only
// Maintenance of images that are attached. A device is suspended, with the file system on it frozen, its image is
// changed, and it is resumed; however that goes, it does not stay suspended.
//
// While it is suspended this program may need nothing that could lie on the device: it is locked in memory, has its
// files open, and writes to no terminal and no file but the image.
#pragma once

#include "base/progress.hpp"
#include "dm/device.hpp"
#include "dm/table.hpp"
#include "qcow2/chain.hpp"
#include "qcow2/image.hpp"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace liveblk::live {

using Work = std::function<void(qcow2::Image &, Progress &)>;

// How long nothing could be read or written.
struct Pause {
    std::string device;
    double milliseconds = 0;
};

// What an IMAGE argument stands for, if it is a dm-qcow2 device: by its name or its node. A file of that name comes
// first, whatever devices there are.
std::optional<dm::Device> find(const std::string &argument);

// The same, and an error if there is none.
dm::Device require_device(const std::string &name);

// What work can begin with: a device that has found its image corrupt cannot be resumed as it was, if that is not
// repaired.
enum class ImageState { sound, any };

// Suspends, works on the image with its lock held, loads a new table if its size has changed, resumes. Before that,
// what is sure to fail is refused by judge(), which sees the image while it is in use. Signals wait: those that end
// programs have the work undone, the device resumed, and then their effect. If this process dies, another one resumes
// the device.
Pause with_suspended(const dm::Device &device, qcow2::Access access, ImageState state, const Work &judge,
                     const Work &work);

// An image beside its live device, of which the header and the snapshots are those of one moment.
qcow2::Image read_beside(const dm::Device &device);

enum class Resumed { was_not_suspended, resumed, resumed_with_new_table };
// Ends what a call that was killed has begun. The table becomes what the size in the image's header asks for.
Resumed complete_and_resume(const dm::Device &device);

// The images below that of a device, nearest first, opened for reading by the names in its table.
std::vector<qcow2::Layer> layers_below(const dm::Device &device);

// Names of devices whose table has this image; empty if there are none or that is not known.
struct Users {
    std::string attached; // as the image that is written to
    std::string above;    // as one below
};
Users users_of(const std::string &path);

} // namespace liveblk::live
