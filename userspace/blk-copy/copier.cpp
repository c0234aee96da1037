// SPDX-License-Identifier: GPL-2.0-only
#include "copier.hpp"

#include "base/error.hpp"
#include "base/kernel_module.hpp"

#include <sys/ioctl.h>

namespace liveblk::copy {
namespace {

std::uint32_t flags_of(Emulate emulate)
{
    switch (emulate) {
    case Emulate::automatic:
        return BLK_COPY_EMULATE;
    case Emulate::always:
        return BLK_COPY_EMULATE | BLK_COPY_NO_OFFLOAD;
    default:
        return 0;
    }
}

} // namespace

Copier::Copier() : fd_(open_module_device(BLK_COPY_DEVICE, "blk-copy"))
{
    std::uint32_t version = 0;
    if (::ioctl(fd_.get(), BLK_COPY_GET_VERSION, &version) != 0)
        fail_errno("ask the kernel module for its version");
    if (version != BLK_COPY_VERSION)
        fail("use the kernel module: it speaks version {}, this program {}", version, BLK_COPY_VERSION);
}

Outcome Copier::copy(int src, std::uint64_t src_offset, int dst, std::uint64_t dst_offset, std::uint64_t length,
                     Emulate emulate) const
{
    blk_copy_range range = {.src = src_offset, .dst = dst_offset, .len = length, .done = 0};
    blk_copy_call call = {};
    call.src_fd = src;
    call.dst_fd = dst;
    call.flags = flags_of(emulate);
    call.nr_ranges = 1;
    call.ranges = reinterpret_cast<std::uintptr_t>(&range);
    const int error = ::ioctl(fd_.get(), BLK_COPY_RANGES, &call) == 0 ? 0 : errno;
    return {.done = call.done, .offloaded = call.offloaded, .error = error};
}

} // namespace liveblk::copy
