// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/xfs.hpp"

#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>

namespace liveblk {
namespace {

// Of the kernel's interface; its header is in a package of its own.
struct Extent {
    std::int64_t offset; // in units of 512 bytes, as length
    std::int64_t block;
    std::int64_t length;
    std::int32_t count;
    std::int32_t entries;
    std::int32_t in_flags;
    std::int32_t out_flags;
    std::int32_t unused1;
    std::int32_t unused2;
};
static_assert(sizeof(Extent) == 48);

constexpr unsigned long get_extents = _IOC(_IOC_READ | _IOC_WRITE, 'X', 56, 32);
constexpr std::int32_t in_unwritten = 0x4;
constexpr std::int32_t in_delayed = 0x8;
constexpr std::int32_t in_no_holes = 0x10;
constexpr std::int32_t out_unwritten = 0x1;

} // namespace

bool is_on_xfs(int fd)
{
    struct statfs st;
    return ::fstatfs(fd, &st) == 0 && st.f_type == XFS_SUPER_MAGIC;
}

std::uint64_t xfs_next_written(int fd, std::uint64_t offset, std::uint64_t end)
{
    constexpr std::uint64_t sector = 512;
    while (offset < end) {
        // The first one is the question.
        std::array<Extent, 33> map{};
        map[0].offset = static_cast<std::int64_t>(offset / sector);
        map[0].length = static_cast<std::int64_t>((end - offset / sector * sector + sector - 1) / sector);
        map[0].count = static_cast<std::int32_t>(map.size());
        map[0].in_flags = in_unwritten | in_delayed | in_no_holes;
        if (::ioctl(fd, get_extents, map.data()) != 0)
            return end;
        const auto last = map.begin() + 1 + std::clamp(map[0].entries, 0, map[0].count - 1);
        const auto found =
            std::find_if(map.begin() + 1, last, [](const Extent &e) { return !(e.out_flags & out_unwritten); });
        if (found != last)
            return std::clamp(static_cast<std::uint64_t>(found->offset) * sector, offset, end);
        if (last != map.end())
            return end;
        offset = static_cast<std::uint64_t>(map.back().offset + map.back().length) * sector;
    }
    return end;
}

} // namespace liveblk
