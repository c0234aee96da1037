// SPDX-License-Identifier: GPL-2.0-only
#include "backing_device.hpp"

#include "block_stack.hpp"
#include "error.hpp"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <filesystem>
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

} // namespace

BackingDevice::BackingDevice(const std::string &path, std::uint64_t bytes_if_new, const std::string &original)
{
    const DeviceNumber avoided = device_number(original);
    struct stat st;
    if (::stat(path.c_str(), &st) == 0 && S_ISBLK(st.st_mode)) {
        if (leads_to(device_number(path), avoided))
            fail("use '{}': it is on '{}' itself", path, original);
        device_ = path;
        loop_ = UniqueFd(::open(path.c_str(), O_RDWR | O_EXCL | O_CLOEXEC));
        if (!loop_)
            fail_errno(fmt::format("open '{}' for nobody else", path));
        clear();
        loop_ = UniqueFd();
        return;
    }
    // Asked before it is created; the folder is there.
    const std::filesystem::path folder = std::filesystem::absolute(path).parent_path();
    for (const DeviceNumber device : devices_below(std::filesystem::exists(path) ? path : folder.string()))
        if (leads_to(device, avoided))
            fail("use '{}': it is a file on '{}' itself", path, original);
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
