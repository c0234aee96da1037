// SPDX-License-Identifier: GPL-2.0-only
#include "live/quiet.hpp"

#include "base/error.hpp"
#include "dm/mounts.hpp"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <ctime>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

namespace liveblk::live {

void stay_in_memory()
{
    // Read from a file at the first use.
    ::tzset();
    if (::mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
        fail_errno("lock this program in memory, so that it does not wait for the device that it suspends");
    if (::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
        fail_errno("keep the kernel from waiting for the device that is to be suspended");
}

void write_out_mounts(unsigned major, unsigned minor)
{
    for (const stack::Mount &mount : stack::all_mounts()) {
        if (mount.device != stack::make_number(major, minor))
            continue;
        const UniqueFd fd = stack::open_mount(mount);
        if (fd)
            (void)::syncfs(fd.get());
    }
}

} // namespace liveblk::live
