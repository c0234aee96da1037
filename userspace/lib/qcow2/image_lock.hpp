// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/error.hpp"

#include <string>
#include <utility>

namespace liveblk::qcow2 {

// Somebody else has the image.
class ImageInUse : public Error {
public:
    // holders: who, as far as it can be found out; a live device's lock belongs to no process.
    ImageInUse(std::string path, std::string attempt, const std::string &holders)
        : Error(attempt + ": the image is in use by " +
                (holders.empty() ? "another program or a live device" : holders)),
          path_(std::move(path)),
          attempt_(std::move(attempt)),
          known_(!holders.empty())
    {
    }

    const std::string &path() const { return path_; }
    const std::string &attempt() const { return attempt_; }
    bool holder_is_known() const { return known_; }

private:
    std::string path_;
    std::string attempt_;
    bool known_;
};

// Processes, the caller excepted, that have a lock of any kind on an open file, for a message.
std::string lock_holders(int fd);

// Whether anybody but this open file has an image lock on it.
bool image_is_locked(int fd, const std::string &path);

// Locks an open image against QEMU, its tools, live dm-qcow2 devices and other calls of ours, the way QEMU does it.
// The lock goes with the open file. Throws if somebody else has the image, and says who as far as that can be known.
void lock_image(int fd, const std::string &path, bool writable);

} // namespace liveblk::qcow2
