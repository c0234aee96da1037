// SPDX-License-Identifier: GPL-2.0-only
#include "backing_device.hpp"

#include "base/error.hpp"
#include "interposition.hpp"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>

#include <vector>

namespace liveblk::interpose {
namespace {

constexpr std::size_t cleared_bytes = 1 << 20;
constexpr int loop_attempts = 16;

// Creates it if need be.
UniqueFd open_file(const std::string &path, std::uint64_t bytes_if_new)
{
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (fd)
        return fd;
    if (errno != ENOENT)
        fail_errno(fmt::format("open '{}'", path));
    fd = UniqueFd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(bytes_if_new)) != 0)
        fail_errno(fmt::format("create '{}'", path));
    return fd;
}

// Asked before anything is written to it, or it is created; its folder is there.
void require_elsewhere(const std::string &path, bool is_device, const std::string &original)
{
    stack::BlockStack stack;
    const stack::DeviceNumber bottom = stack::device_number(original);
    const auto way = is_device ? stack.way(stack::device_number(path), bottom) : stack.way_of_file(path, bottom);
    if (way)
        fail("use '{}': it is {} '{}' itself: {}", path, is_device ? "on" : "a file on", original,
             stack::describe(*way));
    warn_of_unseen(stack, path, original);
}

} // namespace

BackingDevice::BackingDevice(const std::string &path, std::uint64_t bytes_if_new, const std::string &original)
{
    const bool is_device = stack::device_number_or_none(path) != 0;
    require_elsewhere(path, is_device, original);
    if (is_device) {
        device_ = path;
        loop_ = UniqueFd(::open(path.c_str(), O_RDWR | O_EXCL | O_CLOEXEC));
        if (!loop_)
            fail_errno(fmt::format("open '{}' for nobody else", path));
        clear();
        loop_ = UniqueFd();
        return;
    }
    open_file(path, bytes_if_new);
    attach_loop(path);
    clear();
}

void BackingDevice::attach_loop(const std::string &path)
{
    const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    if (!control)
        fail_errno("open '/dev/loop-control'");
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    for (int attempt = 0; attempt < loop_attempts; attempt++) {
        const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
        if (number < 0)
            fail_errno("find a free loop device");
        device_ = fmt::format("/dev/loop{}", number);
        loop_ = UniqueFd(::open(device_.c_str(), O_RDWR | O_CLOEXEC));
        if (!loop_)
            fail_errno(fmt::format("open '{}'", device_));
        loop_config config = {};
        config.fd = static_cast<__u32>(file.get());
        config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
        if (::ioctl(loop_.get(), LOOP_CONFIGURE, &config) == 0)
            return;
        // Somebody else was faster.
        if (errno != EBUSY)
            fail_errno(fmt::format("attach '{}' to '{}'", path, device_));
    }
    fail("attach '{}': every loop device is taken as soon as it is free", path);
}

void BackingDevice::clear() const
{
    const std::vector<char> zeros(cleared_bytes);
    const ssize_t written = ::pwrite(loop_.get(), zeros.data(), zeros.size(), 0);
    if (written < 4096 || ::fsync(loop_.get()) != 0)
        fail_errno(fmt::format("clear the beginning of '{}'", device_));
}

} // namespace liveblk::interpose
