// SPDX-License-Identifier: GPL-2.0-only
#include "filesystems.hpp"

#include "control.hpp"
#include "error.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

namespace liveblk::interpose {
namespace {

namespace fs = std::filesystem;

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

struct Mount {
    std::string device_id;
    std::string point;
    std::string type;
    std::string source;
};

// "ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [FIELD...] - TYPE SOURCE SUPEROPTIONS"
Mount parse_mount(const std::string &line)
{
    std::istringstream stream(line);
    Mount mount;
    std::string word;
    stream >> word >> word >> mount.device_id >> word >> mount.point;
    while (stream >> word && word != "-")
        ;
    stream >> mount.type >> mount.source;
    mount.point = unescape(mount.point);
    mount.source = unescape(mount.source);
    return mount;
}

// The device, and if it is a whole disk, its partitions.
bool is_part_of(const std::string &source, const std::string &device)
{
    struct stat st;
    if (::stat(source.c_str(), &st) != 0 || !S_ISBLK(st.st_mode))
        return false;
    const std::uint64_t number = static_cast<std::uint64_t>(::major(st.st_rdev)) << 32 | ::minor(st.st_rdev);
    const std::uint64_t whole = device_number(device);
    if (number == whole)
        return true;
    const fs::path folder = fs::path(fmt::format("/sys/dev/block/{}:{}", ::major(st.st_rdev), ::minor(st.st_rdev)));
    std::error_code error;
    const fs::path self = fs::canonical(folder, error);
    if (error || !fs::exists(self / "partition", error))
        return false;
    std::ifstream file(self.parent_path() / "dev");
    std::string text;
    file >> text;
    return text == fmt::format("{}:{}", whole >> 32, whole & 0xffffffff);
}

} // namespace

FrozenFilesystems::FrozenFilesystems(const std::string &device)
{
    std::ifstream file("/proc/self/mountinfo");
    std::set<std::string> seen;
    for (std::string line; std::getline(file, line);) {
        const Mount mount = parse_mount(line);
        if (mount.type != "btrfs" || !is_part_of(mount.source, device) || !seen.insert(mount.source).second)
            continue;
        UniqueFd fd(::open(mount.point.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (fd && ::ioctl(fd.get(), FIFREEZE, 0) == 0) {
            frozen_.push_back(std::move(fd));
            continue;
        }
        const int number = errno;
        thaw();
        fail_errno(fmt::format("freeze the file system at '{}'", mount.point), number);
    }
}

void FrozenFilesystems::thaw() noexcept
{
    for (const UniqueFd &fd : frozen_)
        if (::ioctl(fd.get(), FITHAW, 0) != 0)
            std::perror("blk-interpose: thaw a file system");
    frozen_.clear();
}

FrozenFilesystems::~FrozenFilesystems()
{
    thaw();
}

} // namespace liveblk::interpose
