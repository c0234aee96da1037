// SPDX-License-Identifier: GPL-2.0-only
#include "mount.hpp"

#include "error.hpp"

#include <fmt/core.h>

#include <sys/mount.h>

#include <filesystem>
#include <iostream>

namespace liveblk::crash {

Mount::Mount(const std::string &device, const std::string &directory, const std::string &type) : directory_(directory)
{
    std::filesystem::create_directories(directory);
    if (::mount(device.c_str(), directory.c_str(), type.c_str(), 0, nullptr))
        test::throw_errno(fmt::format("mount {} on {} as {}", device, directory, type));
    mounted_ = true;
}

void Mount::unmount()
{
    if (!mounted_)
        return;
    mounted_ = false;
    if (::umount(directory_.c_str()))
        test::throw_errno("unmount " + directory_);
}

Mount::~Mount()
{
    try {
        unmount();
    } catch (const std::exception &error) {
        std::cerr << error.what() << '\n';
    }
}

} // namespace liveblk::crash
