// SPDX-License-Identifier: GPL-2.0-only
#include "location.hpp"

#include "base/byte_size.hpp"
#include "base/error.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

namespace liveblk::copy {

Location Location::parse(const std::string &text)
{
    struct stat st {};
    const auto colon = text.rfind(':');
    if (colon == std::string::npos || ::stat(text.c_str(), &st) == 0)
        return {text, 0};
    return {text.substr(0, colon), parse_bytes(text.substr(colon + 1))};
}

Device Device::open(const std::string &path, int flags)
{
    Device device;
    device.fd = UniqueFd(::open(path.c_str(), flags | O_CLOEXEC));
    if (!device.fd)
        fail_errno(fmt::format("open '{}'", path));
    struct stat st {};
    if (::fstat(device.fd.get(), &st) != 0)
        fail_errno(fmt::format("look at '{}'", path));
    if (!S_ISBLK(st.st_mode))
        fail("open '{}': it is no block device", path);
    if (::ioctl(device.fd.get(), BLKGETSIZE64, &device.size) != 0)
        fail_errno(fmt::format("ask for the size of '{}'", path));
    return device;
}

} // namespace liveblk::copy
