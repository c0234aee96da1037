// SPDX-License-Identifier: GPL-2.0-only
#include "dm/redirections.hpp"

#include "base/error.hpp"
#include "base/unique_fd.hpp"

#include <blk-interposer.h>

#include <fcntl.h>
#include <sys/ioctl.h>

namespace liveblk::stack {

std::vector<Redirection> current_redirections()
{
    std::vector<Redirection> redirections;
    const UniqueFd fd(::open(BLK_INTERPOSER_DEVICE, O_RDWR | O_CLOEXEC));
    if (!fd && (errno == ENOENT || errno == ENXIO || errno == ENODEV))
        return redirections;
    if (!fd)
        fail_errno("open '" BLK_INTERPOSER_DEVICE "', to see where I/O goes");
    blk_interposer_status pair = {};
    for (;;) {
        pair.flags = BLK_INTERPOSER_NEXT;
        if (::ioctl(fd.get(), BLK_INTERPOSER_STATUS, &pair) != 0)
            break;
        redirections.push_back({.original = pair.original, .lower = pair.lower, .target = pair.target});
        const auto id = pair.id;
        pair = {};
        pair.id = id;
    }
    if (errno != ENXIO)
        fail_errno("ask blk-interposer where I/O goes");
    return redirections;
}

} // namespace liveblk::stack
