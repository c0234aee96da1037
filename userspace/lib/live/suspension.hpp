// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/signal_shield.hpp"
#include "live/resume.hpp"
#include "live/session.hpp"
#include "live/tables.hpp"
#include "qcow2/maintenance_lock.hpp"

#include <functional>
#include <string>

namespace liveblk::live {

// A device that is to be suspended for a moment, with the files of its image open. See session.hpp.
class Suspension {
public:
    Suspension(const dm::Device &device, qcow2::Access access, ImageState state);

    const dm::Qcow2Table &table() const { return table_; }
    // Refuses a file that nobody could write, or read, while the device is suspended; throws Hidden if that cannot be
    // seen.
    void require_elsewhere(const std::string &path) const;

    // As with_suspended().
    Pause edit(const Work &judge, const Work &work);
    // Has the device go on with another image, an open file, on top of the present one; look() sees that when it has
    // come to rest. If it fails the device goes on as before, and then give_up() is called: by this process or, if this
    // one is killed, by another.
    Pause put_on_top(const std::string &path, int fd, const std::function<void(const qcow2::Image &)> &look,
                     const std::function<void()> &give_up);

private:
    // What is done while the device is suspended. It may have resumed it.
    using Turn = std::function<void(const SignalShield &, dm::UdevWork &)>;

    Pause run(const Turn &turn, const std::function<void()> &after_rescue);
    void require_its_files() const;
    [[noreturn]] void refuse_top(const std::string &path, int fd, int number) const;
    void look_first(const Work &judge) const;
    void require_unchanged(bool suspended) const;
    qcow2::Image open_image();
    void work_on_image(const Work &work, const SignalShield &shield);
    void follow_header(qcow2::Image &image, Progress &progress);
    int resume(dm::UdevWork &udev, const Wait &wait) const noexcept;

    dm::Device device_;
    dm::Qcow2Table table_;
    qcow2::Access access_;
    ImageState state_;
    UniqueFd image_fd_; // given to the image, so that its lock goes when that ends
    TableFiles files_;  // for a new table
    qcow2::MaintenanceLock lock_;
};

} // namespace liveblk::live
