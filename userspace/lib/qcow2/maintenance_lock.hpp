// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/unique_fd.hpp"

#include <chrono>
#include <string>

namespace liveblk::qcow2 {

// One call at a time maintains an image, whether it was named as a file or as a live device: the image lock alone
// cannot see to that, because a live device has it before and after the edit. The lock is an flock of a file in
// /run/liveblk that is named after the image's inode; it goes with the process, however that ends. A caller who may not
// write there cannot maintain a live device either, and goes without.
class MaintenanceLock {
public:
    // Throws ImageInUse, with the name of the holder.
    MaintenanceLock(int image_fd, const std::string &path);
    // The same, when a holder may still be about to end.
    static MaintenanceLock wait(int image_fd, const std::string &path, std::chrono::milliseconds most);
    MaintenanceLock(const MaintenanceLock &) = delete;
    MaintenanceLock &operator=(const MaintenanceLock &) = delete;
    ~MaintenanceLock();

private:
    std::string file_;
    UniqueFd fd_;
};

} // namespace liveblk::qcow2
