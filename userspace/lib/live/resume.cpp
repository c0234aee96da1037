// SPDX-License-Identifier: GPL-2.0-only
#include "live/resume.hpp"

#include "base/error.hpp"
#include "qcow2/image_lock.hpp"

#include <unistd.h>

#include <cerrno>
#include <thread>

namespace liveblk::live {
namespace {

using namespace std::chrono_literals;

constexpr auto between_tries = 20ms;
constexpr int tries = 5;

} // namespace

bool wait_a_while(Clock::duration so_far)
{
    return so_far < patience;
}

int resume_patiently(const dm::Device &device, dm::UdevWork &udev, const Wait &wait)
{
    const auto start = Clock::now();
    for (int failed = 0;;) {
        const int number = device.try_resume(udev);
        if (number != EBUSY)
            failed++;
        if (!number || failed == tries || (number == EBUSY && !wait(Clock::now() - start)))
            return number;
        std::this_thread::sleep_for(between_tries);
    }
}

bool may_be_suspended(const dm::Device &device)
{
    try {
        return device.info().suspended;
    } catch (const std::exception &) {
        return true;
    }
}

std::string left_suspended(const dm::Device &device, int image_fd, int number)
{
    const std::string holders = number == EBUSY ? qcow2::lock_holders(image_fd) : std::string();
    return fmt::format("'{0}' could not be resumed and is left suspended: {1}{2}{3}; see the kernel log, then run "
                       "'qcow2-maint resume {0}'",
                       device.name(), std::generic_category().message(number),
                       holders.empty() ? "" : ", the image is in use by ", holders);
}

void settle(int image_fd)
{
    // An error is that of the device too, which goes on from what is there.
    (void)::fdatasync(image_fd);
}

} // namespace liveblk::live
