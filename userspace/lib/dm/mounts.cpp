// SPDX-License-Identifier: GPL-2.0-only
#include "dm/mounts.hpp"

#include "base/error.hpp"

#include <fcntl.h>
#include <linux/btrfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>

namespace liveblk::stack {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> split(std::string_view text, char separator)
{
    std::vector<std::string> parts;
    std::string part;
    for (std::size_t i = 0; i < text.size(); i++) {
        // What is escaped belongs to a name.
        if (text[i] == '\\' && i + 1 < text.size()) {
            part += text[i++];
            part += text[i];
        } else if (text[i] == separator) {
            parts.push_back(std::exchange(part, {}));
        } else {
            part += text[i];
        }
    }
    parts.push_back(part);
    return parts;
}

void read_mounts(const std::string &process, const std::string &prefix, std::set<std::uint64_t> &seen,
                 std::vector<Mount> &mounts)
{
    std::ifstream file(process + "/mountinfo");
    for (std::string line; std::getline(file, line);)
        if (auto mount = parse_mount(line, prefix))
            if (seen.insert(mount->id).second)
                mounts.push_back(std::move(*mount));
}

// What a process sees of all mounts: those of its namespace, from its root on.
std::string view_of(const std::string &process)
{
    std::error_code error;
    const fs::path space = fs::read_symlink(process + "/ns/mnt", error);
    struct stat root;
    if (error || ::stat((process + "/root").c_str(), &root) != 0)
        return {};
    return fmt::format("{} {} {}", space.string(), root.st_dev, root.st_ino);
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

std::vector<DeviceNumber> btrfs_devices(const fs::path &folder)
{
    return numbers_in_each(folder / "devices");
}

// By any of its files; by one of its devices, where the mount cannot be reached.
std::vector<DeviceNumber> btrfs_devices(const Mount &mount)
{
    const fs::path all = "/sys/fs/btrfs";
    const std::string uuid = btrfs_uuid(open_mount(mount));
    if (!uuid.empty())
        return btrfs_devices(all / uuid);
    const DeviceNumber one = device_number_or_none(mount.source);
    std::error_code error;
    for (const auto &entry : fs::directory_iterator(all, error)) {
        const auto devices = btrfs_devices(entry.path());
        if (one && std::find(devices.begin(), devices.end(), one) != devices.end())
            return devices;
    }
    return {};
}

// ext4 may have its journal on another device, whose number is in the super block.
DeviceNumber ext4_journal(const Mount &mount)
{
    constexpr std::size_t super_offset = 1024, journal_inode = 0xe0, journal_device = 0xe4, compatible = 0x5c;
    const UniqueFd fd(::open(node_of(mount.device).c_str(), O_RDONLY | O_CLOEXEC));
    std::array<unsigned char, 1024> super = {};
    if (!fd || ::pread(fd.get(), super.data(), super.size(), super_offset) != static_cast<ssize_t>(super.size()))
        return 0;
    const auto word = [&super](std::size_t at) {
        return static_cast<std::uint32_t>(super[at] | super[at + 1] << 8 | super[at + 2] << 16) |
               static_cast<std::uint32_t>(super[at + 3]) << 24;
    };
    if (!(word(compatible) & 4) || word(journal_inode))
        return 0;
    // As the kernel writes numbers of devices: 12 bits of the major one, the minor one around them.
    const std::uint32_t number = word(journal_device);
    return static_cast<DeviceNumber>(number >> 8 & 0xfff) << 32 | (number & 0xff) | (number >> 12 & 0xfff00);
}

} // namespace

std::string unescape(std::string_view text)
{
    std::string result;
    for (std::size_t i = 0; i < text.size(); i++) {
        unsigned value = 0;
        if (text[i] == '\\' && i + 3 < text.size() &&
            std::from_chars(&text[i + 1], &text[i + 1] + 3, value, 8).ptr == &text[i + 1] + 3) {
            result += static_cast<char>(value);
            i += 3;
        } else {
            result += text[i];
        }
    }
    return result;
}

bool Mount::has(std::string_view option) const
{
    return std::find(options.begin(), options.end(), option) != options.end();
}

std::vector<std::string> Mount::values(std::string_view option) const
{
    std::vector<std::string> found;
    for (const std::string &one : options)
        if (one.size() > option.size() && one.starts_with(option) && one[option.size()] == '=')
            found.push_back(unescape(one.substr(option.size() + 1)));
    return found;
}

// "ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [FIELD...] - TYPE SOURCE SUPEROPTIONS"
std::optional<Mount> parse_mount(const std::string &line, const std::string &prefix)
{
    std::istringstream stream(line);
    std::string parent, number, root, word, options;
    Mount mount;
    stream >> mount.id >> parent >> number >> root >> mount.point;
    while (stream >> word && word != "-")
        ;
    stream >> mount.type >> mount.source >> options;
    mount.device = parse_number(number);
    if (mount.type.empty() || !mount.device)
        return std::nullopt;
    mount.prefix = prefix;
    mount.point = unescape(mount.point);
    mount.source = unescape(mount.source);
    mount.options = split(options, ',');
    return mount;
}

std::vector<Mount> all_mounts()
{
    std::vector<Mount> mounts;
    std::set<std::uint64_t> seen;
    std::set<std::string> views = {"", view_of("/proc/self")};
    read_mounts("/proc/self", "", seen, mounts);
    std::error_code error;
    for (const auto &entry : fs::directory_iterator("/proc", error)) {
        const std::string process = entry.path();
        if (!std::isdigit(static_cast<unsigned char>(entry.path().filename().string()[0])))
            continue;
        if (views.insert(view_of(process)).second)
            read_mounts(process, process + "/root", seen, mounts);
    }
    return mounts;
}

std::uint64_t mount_id(const std::string &path)
{
    struct statx st = {};
    if (::statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC, STATX_MNT_ID, &st) != 0 || !(st.stx_mask & STATX_MNT_ID))
        return 0;
    return st.stx_mnt_id;
}

UniqueFd open_mount(const Mount &mount)
{
    UniqueFd fd(::open(mount.path().c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    if (fd && mount_id(fmt::format("/proc/self/fd/{}", fd.get())) != mount.id)
        return {};
    return fd;
}

std::vector<DeviceNumber> devices_of(const Mount &mount)
{
    std::vector<DeviceNumber> devices;
    const auto add = [&devices](DeviceNumber device) {
        if (device)
            devices.push_back(device);
    };
    if (mount.type == "btrfs")
        return btrfs_devices(mount);
    if (major_of(mount.device) != 0)
        add(mount.device);
    else if (mount.type == "bcachefs")
        for (const std::string &path : split(mount.source, ':'))
            add(device_number_or_none(path));
    for (const char *option : {"logdev", "rtdev"})
        for (const std::string &path : mount.values(option))
            add(device_number_or_none(path));
    if (mount.type == "ext4" || mount.type == "ext3")
        add(ext4_journal(mount));
    return devices;
}

} // namespace liveblk::stack
