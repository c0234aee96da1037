// SPDX-License-Identifier: GPL-2.0-only
#include "dm/block_stack.hpp"

#include "dm/device.hpp"
#include "dm/table.hpp"

#include <fmt/ranges.h>

#include <fcntl.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <linux/raid/md_u.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace liveblk::stack {
namespace {

namespace fs = std::filesystem;

// An overlay on an overlay and so on; the kernel takes two.
constexpr std::size_t max_past = 16;
constexpr std::string_view deleted = " (deleted)";

bool exists(const std::string &path)
{
    struct stat st;
    return ::stat(path.c_str(), &st) == 0;
}

UniqueFd open_node(DeviceNumber device)
{
    return UniqueFd(::open(node_of(device).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
}

// The kernel's way to write the path of a file that has no name any more.
std::string without_mark(const std::string &path)
{
    if (!path.ends_with(deleted) || exists(path))
        return path;
    return path.substr(0, path.size() - deleted.size());
}

// A file without a name was in the file system of its folder.
std::string nearest(const std::string &path)
{
    fs::path here = path;
    while (!exists(here) && here.has_relative_path())
        here = here.parent_path();
    return here;
}

// Both tables of a device of device-mapper: the one that is live, and the one that the next resume makes live.
std::vector<dm::Target> tables_of(DeviceNumber device)
{
    const auto found = dm::Device::find(node_of(device));
    if (!found)
        return {};
    std::vector<dm::Target> targets = found->table();
    const std::vector<dm::Target> inactive = found->inactive_table();
    targets.insert(targets.end(), inactive.begin(), inactive.end());
    return targets;
}

template <typename... Args>
[[noreturn]] void hidden(fmt::format_string<Args...> text, Args &&...args)
{
    throw Hidden(fmt::format(text, std::forward<Args>(args)...));
}

std::string quoted(const std::string &path)
{
    return "'" + path + "'";
}

// Folders between colons, of which one may be in a name.
std::vector<std::string> folders(const std::string &text)
{
    std::vector<std::string> parts(1);
    for (std::size_t i = 0; i < text.size(); i++) {
        if (text[i] == '\\' && i + 1 < text.size())
            parts.back() += text[++i];
        else if (text[i] == ':')
            parts.emplace_back();
        else
            parts.back() += text[i];
    }
    std::erase(parts, "");
    return parts;
}

// Their files are in memory alone, or are none.
bool is_nowhere(const std::string &type)
{
    static const std::set<std::string, std::less<>> types = {
        "tmpfs",      "ramfs",    "devtmpfs", "devpts",  "proc",   "sysfs",    "cgroup",    "cgroup2",
        "securityfs", "debugfs",  "bdev",     "tracefs", "mqueue", "configfs", "fusectl",   "hugetlbfs",
        "pstore",     "efivarfs", "bpf",      "autofs",  "rootfs", "ramdisk",  "selinuxfs", "binfmt_misc"};
    return types.contains(type);
}

} // namespace

std::string describe(const Way &way)
{
    return fmt::format("{}", fmt::join(way, " -> "));
}

BlockStack::BlockStack() : mounts_(all_mounts()), redirections_(current_redirections()) {}

std::optional<Way> BlockStack::way(DeviceNumber from, DeviceNumber bottom)
{
    Way way;
    seen_.clear();
    return find({.past = {}, .device = from}, bottom, way) ? std::optional(way) : std::nullopt;
}

std::optional<Way> BlockStack::way_of_file(const std::string &path, DeviceNumber bottom)
{
    Way way;
    Steps steps;
    seen_.clear();
    add_path(fs::absolute(path), {}, steps);
    return find_in(steps, bottom, way) ? std::optional(way) : std::nullopt;
}

bool BlockStack::find(const Step &step, DeviceNumber bottom, Way &way)
{
    const std::size_t length = way.size();
    way.insert(way.end(), step.past.begin(), step.past.end());
    way.push_back(node_of(step.device));
    if (step.redirected && step.device == bottom)
        return true;
    if (step.whole && step.device && step.device == disk_of(bottom)) {
        way.push_back(node_of(bottom));
        return true;
    }
    if (seen_.insert({step.device, step.redirected, step.whole}).second &&
        find_in(below(step.device, step.redirected), bottom, way))
        return true;
    way.resize(length);
    return false;
}

bool BlockStack::find_in(const Steps &steps, DeviceNumber bottom, Way &way)
{
    return std::any_of(steps.begin(), steps.end(), [&](const Step &step) { return find(step, bottom, way); });
}

BlockStack::Steps BlockStack::below(DeviceNumber device, bool redirected)
{
    Steps steps;
    add_redirections(device, redirected, steps);
    const fs::path folder = sysfs_of(device);
    if (folder.empty())
        return steps;
    if (const DeviceNumber disk = disk_of(device)) {
        steps.push_back({.past = {}, .device = disk, .whole = false});
        return steps;
    }
    for (const DeviceNumber slave : numbers_in_each(folder / "slaves"))
        steps.push_back({.past = {}, .device = slave});
    add_loop(device, steps);
    add_loop_copy(device, steps);
    add_tables(device, steps);
    add_md_bitmap(device, steps);
    add_bcache(device, steps);
    add_zram(device, steps);
    add_server(device, steps);
    return steps;
}

void BlockStack::add_redirections(DeviceNumber device, bool redirected, Steps &steps) const
{
    for (const Redirection &pair : redirections_) {
        if (redirected && pair.original == device && pair.target)
            steps.push_back({.past = {}, .device = pair.target});
        if (pair.lower == device)
            steps.push_back({.past = {}, .device = pair.original, .redirected = false});
    }
}

// The path is what it was when the device was made, as seen from there; the kernel has the file itself.
void BlockStack::add_loop(DeviceNumber device, Steps &steps)
{
    const std::string shown = read_line(sysfs_of(device) / "loop/backing_file");
    if (shown.empty())
        return;
    const std::string path = without_mark(shown);
    loop_info64 info = {};
    const UniqueFd fd = open_node(device);
    if (!fd || ::ioctl(fd.get(), LOOP_GET_STATUS64, &info) != 0)
        return add_path(path, {}, steps);
    // On a block device.
    if (info.lo_rdevice) {
        steps.push_back({.past = {}, .device = make_number(static_cast<dev_t>(info.lo_rdevice))});
        return;
    }
    struct stat st;
    const bool same = ::stat(path.c_str(), &st) == 0 && st.st_ino == info.lo_inode && st.st_dev == info.lo_device;
    const Mount *mount = same ? nullptr : find_mount_of(make_number(static_cast<dev_t>(info.lo_device)));
    if (mount)
        return add_mount(*mount, {quoted(shown)}, steps);
    if (!same && major(static_cast<dev_t>(info.lo_device)) != 0) {
        // Mounted nowhere any more, but used.
        steps.push_back({.past = {quoted(shown)}, .device = make_number(static_cast<dev_t>(info.lo_device))});
        return;
    }
    add_path(path, {}, steps);
}

void BlockStack::add_loop_copy(DeviceNumber device, Steps &steps)
{
    const fs::path folder = sysfs_of(device) / "loop-copy";
    const std::string shown = read_line(folder / "backing_file");
    if (shown.empty())
        return;
    // That of the file itself, below any overlay; without a block device, btrfs for instance, the path has to tell.
    if (const DeviceNumber number = parse_number(read_line(folder / "backing_dev"))) {
        if (const Mount *mount = find_mount_of(number))
            return add_mount(*mount, {quoted(shown)}, steps);
        if (major_of(number) != 0) {
            steps.push_back({.past = {quoted(shown)}, .device = number});
            return;
        }
    }
    add_path(without_mark(shown), {}, steps);
}

// What tables have besides devices: files of dm-qcow2, whatever they are for; and what an origin is written to makes
// dm-snapshot write to the stores of all its snapshots, which are tables of their own.
void BlockStack::add_tables(DeviceNumber device, Steps &steps)
{
    if (!fs::exists(sysfs_of(device) / "dm"))
        return;
    for (const dm::Target &target : tables_of(device)) {
        const std::vector<std::string> words = dm::split_words(target.params);
        if (target.type == dm::qcow2_target)
            for (const std::string &word : words)
                if (word.starts_with('/'))
                    add_path(without_mark(word), {}, steps);
        if (target.type != "snapshot-origin" || words.empty())
            continue;
        for (const DeviceNumber holder : numbers_in_each(sysfs_of(parse_number(words[0])) / "holders"))
            for (const dm::Target &other : tables_of(holder))
                if (other.type == "snapshot" || other.type == "snapshot-merge")
                    steps.push_back({.past = {}, .device = holder});
    }
}

void BlockStack::add_md_bitmap(DeviceNumber device, Steps &steps)
{
    if (read_line(sysfs_of(device) / "md/bitmap/location") != "file")
        return;
    mdu_bitmap_file_t bitmap = {};
    const UniqueFd fd = open_node(device);
    if (!fd || ::ioctl(fd.get(), GET_BITMAP_FILE, &bitmap) != 0)
        fail_errno(fmt::format("ask '{}' for its bitmap file", node_of(device)));
    bitmap.pathname[sizeof(bitmap.pathname) - 1] = '\0';
    add_path(without_mark(bitmap.pathname), {}, steps);
}

// The folder of a set has links to its caches, each in the folder of the device that it is on. A device whose bcache
// folder is its own is not made of others, but a part.
void BlockStack::add_bcache(DeviceNumber device, Steps &steps) const
{
    std::error_code error;
    const fs::path folder = sysfs_of(device);
    const fs::path own = fs::canonical(folder / "bcache", error);
    if (error || own.parent_path() == folder)
        return;
    if (const DeviceNumber backing = number_in(own.parent_path()))
        steps.push_back({.past = {}, .device = backing});
    for (const auto &entry : fs::directory_iterator(own / "cache", error)) {
        if (!entry.path().filename().string().starts_with("cache"))
            continue;
        const fs::path cache = fs::canonical(entry.path(), error);
        if (!error)
            if (const DeviceNumber number = number_in(cache.parent_path()))
                steps.push_back({.past = {}, .device = number});
    }
}

void BlockStack::add_zram(DeviceNumber device, Steps &steps)
{
    const std::string path = read_line(sysfs_of(device) / "backing_dev");
    if (!path.empty() && path != "none")
        add_path(without_mark(path), {}, steps);
}

// A disk that a program serves. qemu-nbd is itself the process that is named; others may be anywhere.
void BlockStack::add_server(DeviceNumber device, Steps &steps)
{
    const fs::path folder = sysfs_of(device);
    const std::string name = folder.filename();
    if (!name.starts_with("nbd") && !name.starts_with("ublkb") && !name.starts_with("liveub"))
        return;
    const std::string process = read_line(folder / "pid");
    std::error_code error;
    for (const auto &entry : fs::directory_iterator("/proc/" + process + "/fd", error)) {
        struct stat st;
        if (process.empty() || ::stat(entry.path().c_str(), &st) != 0)
            continue;
        const fs::path target = fs::read_symlink(entry.path(), error);
        if (S_ISBLK(st.st_mode))
            steps.push_back({.past = {}, .device = make_number(st.st_rdev)});
        else if (S_ISREG(st.st_mode))
            add_path(entry.path(), {"process " + process, quoted(target.string())}, steps);
    }
    unseen_.insert(node_of(device));
}

const Mount *BlockStack::find_mount(std::uint64_t id) const
{
    const auto found = std::find_if(mounts_.begin(), mounts_.end(), [id](const Mount &m) { return m.id == id; });
    return id && found != mounts_.end() ? &*found : nullptr;
}

const Mount *BlockStack::find_mount_of(DeviceNumber device) const
{
    const auto found =
        std::find_if(mounts_.begin(), mounts_.end(), [device](const Mount &m) { return m.device == device; });
    return found != mounts_.end() ? &*found : nullptr;
}

// A path that is said elsewhere already is not said again.
void BlockStack::add_path(const std::string &path, Way past, Steps &steps)
{
    if (const DeviceNumber device = device_number_or_none(path)) {
        steps.push_back({.past = std::move(past), .device = device});
        return;
    }
    if (past.empty() || !path.starts_with("/proc/"))
        past.push_back(quoted(path));
    const std::string here = nearest(path);
    if (const Mount *mount = find_mount(mount_id(here)))
        return add_mount(*mount, past, steps);
    struct stat st;
    if (::stat(here.c_str(), &st) == 0 && major(st.st_dev) != 0)
        steps.push_back({.past = past, .device = make_number(st.st_dev)});
    else
        hidden("find out what '{}' is on: its mount is not visible here", path);
}

void BlockStack::add_mount(const Mount &mount, const Way &past, Steps &steps)
{
    if (past.size() > max_past)
        hidden("find out what {} is on: too many file systems on top of each other", past.front());
    if (mount.type == "overlay")
        return add_overlay(mount, past, steps);
    if (mount.type == "ecryptfs")
        return add_path(mount.prefix + mount.source, past, steps);
    const auto devices = devices_of(mount);
    for (const DeviceNumber device : devices)
        steps.push_back({.past = past, .device = device});
    if (devices.empty() && (mount.type == "btrfs" || mount.type == "bcachefs"))
        hidden("find out what {} is on: the devices of the {} on '{}' are not visible here", past.front(), mount.type,
               mount.point);
    if (devices.empty() && !is_nowhere(mount.type))
        unseen_.insert(fmt::format("{} on '{}'", mount.type, mount.point));
}

// Whoever mounted it may have seen other folders than this program. What does not lead to the lower ones here can be
// a file that is yet to be copied up; all of them count.
void BlockStack::add_overlay(const Mount &mount, const Way &past, Steps &steps)
{
    std::vector<std::string> layers;
    for (const char *option : {"upperdir", "workdir", "lowerdir", "lowerdir+", "datadir+"})
        for (const std::string &value : mount.values(option))
            for (std::string &folder : folders(value))
                layers.push_back(std::move(folder));
    for (const std::string &layer : layers) {
        const std::string path = mount.prefix + layer;
        if (!layer.starts_with('/') || !exists(path))
            hidden("find out what {} is on: '{}', a layer of the overlay on '{}', is not visible here", past.front(),
                   layer, mount.point);
        add_path(path, past, steps);
    }
}

} // namespace liveblk::stack
