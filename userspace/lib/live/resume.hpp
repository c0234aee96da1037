// SPDX-License-Identifier: GPL-2.0-only
// How a device that is suspended goes on.
#pragma once

#include "dm/device.hpp"

#include <chrono>
#include <functional>
#include <string>

namespace liveblk::live {

using Clock = std::chrono::steady_clock;

// Asked whether to wait on for somebody who has the image; the argument is how long that has been.
using Wait = std::function<bool(Clock::duration)>;

// Between our letting go of an image and the device's taking it, a short call of qemu-img may get hold of it.
inline constexpr std::chrono::seconds patience(10);
bool wait_a_while(Clock::duration so_far);

// Returns 0 or the number of the last error.
int resume_patiently(const dm::Device &device, dm::UdevWork &udev, const Wait &wait);

bool may_be_suspended(const dm::Device &device);

// What to say of a device that could not be resumed, with the number of the error.
std::string left_suspended(const dm::Device &device, int image_fd, int number);

// Whoever was killed may have written a header and not made it durable. The device writes to what that has freed.
void settle(int image_fd);

} // namespace liveblk::live
