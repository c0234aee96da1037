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

    // As with_suspended().
    Pause edit(const Work &judge, const Work &work);

private:
    // What is done while the device is suspended. It may have resumed it.
    using Turn = std::function<void(const SignalShield &, dm::UdevWork &)>;

    Pause run(const Turn &turn);
    void require_its_files() const;
    void require_elsewhere(const std::string &path) const;
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
