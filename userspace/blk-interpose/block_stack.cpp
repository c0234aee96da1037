// SPDX-License-Identifier: GPL-2.0-only
#include "block_stack.hpp"

#include "error.hpp"

#include <fcntl.h>
#include <linux/btrfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

namespace liveblk::interpose {
namespace {

namespace fs = std::filesystem;

DeviceNumber make_number(dev_t device)
{
    return static_cast<DeviceNumber>(::major(device)) << 32 | ::minor(device);
}

fs::path sysfs_of(DeviceNumber device)
{
    std::error_code error;
    return fs::canonical(fmt::format("/sys/dev/block/{}:{}", device >> 32, device & 0xffffffff), error);
}

std::string read_line(const fs::path &path)
{
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

// Of a folder of sysfs; 0 if it is no block device's.
DeviceNumber number_in(const fs::path &folder)
{
    const std::string line = read_line(folder / "dev");
    unsigned major = 0, minor = 0;
    if (std::sscanf(line.c_str(), "%u:%u", &major, &minor) != 2)
        return 0;
    return static_cast<DeviceNumber>(major) << 32 | minor;
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

// Empty if it is no btrfs.
std::string btrfs_uuid(const UniqueFd &file)
{
    btrfs_ioctl_fs_info_args info = {};
    if (!file || ::ioctl(file.get(), BTRFS_IOC_FS_INFO, &info) != 0)
        return {};
    std::string text;
    for (std::size_t i = 0; i < BTRFS_FSID_SIZE; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            text += '-';
        text += fmt::format("{:02x}", info.fsid[i]);
    }
    return text;
}

std::vector<DeviceNumber> btrfs_devices(const std::string &uuid)
{
    return numbers_in_each(fs::path("/sys/fs/btrfs") / uuid / "devices");
}

// What the device is made of, one step down.
std::vector<DeviceNumber> below(DeviceNumber device)
{
    const fs::path folder = sysfs_of(device);
    std::error_code error;
    if (folder.empty())
        return {};
    if (fs::exists(folder / "partition", error))
        return {number_in(folder.parent_path())};
    const std::string file = read_line(folder / "loop/backing_file");
    if (!file.empty() && fs::exists(file, error))
        return devices_below(file);
    return numbers_in_each(folder / "slaves");
}

bool leads_to(DeviceNumber from, DeviceNumber to, std::set<DeviceNumber> &seen)
{
    if (from == to)
        return true;
    if (!seen.insert(from).second)
        return false;
    const auto devices = below(from);
    return std::any_of(devices.begin(), devices.end(), [&](DeviceNumber device) { return leads_to(device, to, seen); });
}

// mountinfo writes blanks and backslashes as octal numbers.
std::string unescape(const std::string &text)
{
    std::string result;
    for (std::size_t i = 0; i < text.size(); i++) {
        if (text[i] == '\\' && i + 3 < text.size()) {
            result += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8));
            i += 3;
        } else {
            result += text[i];
        }
    }
    return result;
}

// "ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [FIELD...] - TYPE SOURCE SUPEROPTIONS"; empty if it is of another type.
std::string mount_point(const std::string &line, const std::string &wanted)
{
    std::istringstream stream(line);
    std::string word, point, type;
    stream >> word >> word >> word >> word >> point;
    while (stream >> word && word != "-")
        ;
    stream >> type;
    return type == wanted ? unescape(point) : "";
}

} // namespace

DeviceNumber device_number(const std::string &path)
{
    struct stat st;
    if (::stat(path.c_str(), &st) != 0)
        fail_errno(fmt::format("look up '{}'", path));
    if (!S_ISBLK(st.st_mode))
        fail("look up '{}': it is no block device", path);
    return make_number(st.st_rdev);
}

bool is_part_of(DeviceNumber device, DeviceNumber whole)
{
    if (device == whole)
        return true;
    const fs::path folder = sysfs_of(device);
    std::error_code error;
    return !folder.empty() && fs::exists(folder / "partition", error) && number_in(folder.parent_path()) == whole;
}

bool leads_to(DeviceNumber from, DeviceNumber to)
{
    std::set<DeviceNumber> seen;
    return leads_to(from, to, seen);
}

std::vector<DeviceNumber> devices_below(const std::string &path)
{
    struct stat st;
    if (::stat(path.c_str(), &st) != 0)
        fail_errno(fmt::format("look up '{}'", path));
    // A file system that has no device of its own has a number without one.
    if (::major(st.st_dev) != 0)
        return {make_number(st.st_dev)};
    return btrfs_devices(btrfs_uuid(UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC))));
}

std::vector<UniqueFd> unlisted_filesystems(const std::string &device)
{
    const DeviceNumber whole = device_number(device);
    std::vector<UniqueFd> files;
    std::set<std::string> seen;
    std::ifstream mounts("/proc/self/mountinfo");
    for (std::string line; std::getline(mounts, line);) {
        const std::string point = mount_point(line, "btrfs");
        if (point.empty())
            continue;
        UniqueFd file(::open(point.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
        const std::string uuid = btrfs_uuid(file);
        const auto devices = uuid.empty() ? std::vector<DeviceNumber>() : btrfs_devices(uuid);
        const auto is_ours = [&](DeviceNumber number) { return is_part_of(number, whole); };
        if (std::any_of(devices.begin(), devices.end(), is_ours) && seen.insert(uuid).second)
            files.push_back(std::move(file));
    }
    return files;
}

} // namespace liveblk::interpose
