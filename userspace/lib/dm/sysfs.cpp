// SPDX-License-Identifier: GPL-2.0-only
#include "dm/sysfs.hpp"

#include "base/error.hpp"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstdio>
#include <fstream>

namespace liveblk::stack {

namespace fs = std::filesystem;

DeviceNumber make_number(dev_t device)
{
    return make_number(major(device), minor(device));
}

DeviceNumber parse_number(const std::string &text)
{
    unsigned major = 0;
    unsigned minor = 0;
    if (std::sscanf(text.c_str(), "%u:%u", &major, &minor) != 2)
        return 0;
    return make_number(major, minor);
}

DeviceNumber device_number(const std::string &path)
{
    struct stat st;
    if (::stat(path.c_str(), &st) != 0)
        fail_errno(fmt::format("look up '{}'", path));
    if (!S_ISBLK(st.st_mode))
        fail("look up '{}': it is no block device", path);
    return make_number(st.st_rdev);
}

DeviceNumber device_number_or_none(const std::string &path)
{
    struct stat st;
    return ::stat(path.c_str(), &st) == 0 && S_ISBLK(st.st_mode) ? make_number(st.st_rdev) : 0;
}

fs::path sysfs_of(DeviceNumber device)
{
    std::error_code error;
    return fs::canonical(fmt::format("/sys/dev/block/{}:{}", major_of(device), minor_of(device)), error);
}

std::string node_of(DeviceNumber device)
{
    std::ifstream file(fmt::format("/sys/dev/block/{}:{}/uevent", major_of(device), minor_of(device)));
    const std::string key = "DEVNAME=";
    for (std::string line; std::getline(file, line);)
        if (line.starts_with(key))
            return "/dev/" + line.substr(key.size());
    return fmt::format("/dev/block/{}:{}", major_of(device), minor_of(device));
}

std::string read_line(const fs::path &path)
{
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

DeviceNumber number_in(const fs::path &folder)
{
    return parse_number(read_line(folder / "dev"));
}

std::vector<DeviceNumber> numbers_in_each(const fs::path &folder)
{
    std::vector<DeviceNumber> numbers;
    std::error_code error;
    for (const auto &entry : fs::directory_iterator(folder, error))
        if (const DeviceNumber number = number_in(entry.path()))
            numbers.push_back(number);
    return numbers;
}

DeviceNumber disk_of(DeviceNumber partition)
{
    const fs::path folder = sysfs_of(partition);
    std::error_code error;
    return !folder.empty() && fs::exists(folder / "partition", error) ? number_in(folder.parent_path()) : 0;
}

bool is_part_of(DeviceNumber device, DeviceNumber whole)
{
    return device == whole || (whole && disk_of(device) == whole);
}

std::vector<DeviceNumber> with_partitions(DeviceNumber device)
{
    std::vector<DeviceNumber> devices = {device};
    const fs::path folder = sysfs_of(device);
    std::error_code error;
    if (folder.empty())
        return devices;
    for (const auto &entry : fs::directory_iterator(folder, error))
        if (fs::exists(entry.path() / "partition", error))
            if (const DeviceNumber number = number_in(entry.path()))
                devices.push_back(number);
    return devices;
}

} // namespace liveblk::stack
