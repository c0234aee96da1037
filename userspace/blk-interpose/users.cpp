// SPDX-License-Identifier: GPL-2.0-only
#include "users.hpp"

#include "base/error.hpp"
#include "dm/device.hpp"

#include <fcntl.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>
#include <vector>

namespace liveblk::interpose {
namespace {

namespace fs = std::filesystem;
using stack::DeviceNumber;

// They send bios by submit_bio_noacct(), and nothing else, if they are not request-based.
const std::set<std::string, std::less<>> known_targets = {
    "cache",     "clone",     "crypt",          "delay",           "ebs",       "era",       "error",
    "flakey",    "linear",    "log-writes",     "mirror",          "multipath", "integrity", "qcow2",
    "raid",      "snapshot",  "snapshot-merge", "snapshot-origin", "striped",   "switch",    "thin",
    "thin-pool", "unstriped", "verity",         "writecache",      "zero",      "zoned"};

// Those that have one block device, by which the kernel finds them to be frozen; and btrfs, which the tool finds.
const std::set<std::string, std::less<>> known_filesystems = {
    "btrfs", "erofs",  "exfat", "ext2",     "ext3",     "ext4", "f2fs", "iso9660", "jfs",
    "msdos", "nilfs2", "ntfs3", "reiserfs", "squashfs", "udf",  "vfat", "xfs"};

bool is_there(const fs::path &path)
{
    std::error_code error;
    return fs::exists(path, error);
}

// Whoever has claimed it has opened it for nobody else. That a partition is claimed counts for the disk, too.
bool is_claimed(DeviceNumber device)
{
    const UniqueFd fd(::open(stack::node_of(device).c_str(), O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK));
    return !fd && errno == EBUSY;
}

// What a user of the original is called, and why it cannot be redirected.
class Users {
public:
    explicit Users(std::string original)
        : original_(std::move(original)), devices_(stack::with_partitions(stack::device_number(original_)))
    {
    }

    void check()
    {
        for (const DeviceNumber device : devices_)
            check_holders(device);
        check_mounts();
        note_swap();
        note_others();
        check_claims();
    }

private:
    [[noreturn]] void refuse(DeviceNumber device, const std::string &why) const
    {
        fail("interpose '{}': {} is in use by {}", original_, stack::node_of(device), why);
    }
    bool is_ours(DeviceNumber device) const
    {
        return std::find(devices_.begin(), devices_.end(), device) != devices_.end();
    }
    bool has_dax() const
    {
        const DeviceNumber disk = stack::disk_of(devices_[0]);
        return stack::read_line(stack::sysfs_of(disk ? disk : devices_[0]) / "queue/dax") == "1";
    }

    void check_holders(DeviceNumber device)
    {
        for (const DeviceNumber holder : stack::numbers_in_each(stack::sysfs_of(device) / "holders")) {
            const fs::path folder = stack::sysfs_of(holder);
            if (is_there(folder / "dm"))
                check_mapped(device, holder, folder);
            else if (!is_there(folder / "md") && !is_there(folder / "bcache"))
                refuse(device, fmt::format("{}, of which it is not known how it does I/O", stack::node_of(holder)));
            known_.insert(device);
        }
    }

    // Request-based device-mapper hands its own requests to the driver of the original, without a bio.
    void check_mapped(DeviceNumber device, DeviceNumber holder, const fs::path &folder)
    {
        const auto mapped = dm::Device::find(stack::node_of(holder));
        const std::string name = mapped ? mapped->name() : stack::node_of(holder);
        const auto table = mapped ? mapped->table() : std::vector<dm::Target>();
        if (is_there(folder / "mq"))
            refuse(device, fmt::format("'{}' ({}), which sends it requests past any redirection", name,
                                       table.empty() ? "request-based" : table[0].type));
        for (const dm::Target &target : table)
            if (const auto why = objection_to(target.type))
                refuse(device, fmt::format("'{}', {}", name, *why));
    }

    // Where one device of several is listed, the others are found by their claims.
    void check_mounts()
    {
        const bool dax = has_dax();
        for (const stack::Mount &mount : stack::all_mounts()) {
            for (const DeviceNumber device : stack::devices_of(mount)) {
                if (!is_ours(device))
                    continue;
                if (const auto why = objection_to(mount, dax))
                    refuse(device, fmt::format("the {} on '{}'{}", mount.type, mount.point, *why));
                known_.insert(device);
            }
        }
    }

    void note_swap()
    {
        std::ifstream swaps("/proc/swaps");
        for (std::string line; std::getline(swaps, line);)
            known_.insert(stack::device_number_or_none(stack::unescape(line.substr(0, line.find_first_of(" \t")))));
    }

    // What has neither a holder nor a mount that is visible.
    void note_others()
    {
        for (const DeviceNumber device : devices_) {
            const fs::path folder = stack::sysfs_of(device);
            if (is_there(folder / "bcache"))
                known_.insert(device);
            for (const char *type : {"ext4", "xfs", "f2fs"})
                if (is_there(fs::path("/sys/fs") / type / folder.filename()))
                    known_.insert(device);
        }
        std::error_code error;
        for (const auto &entry : fs::directory_iterator("/sys/fs/btrfs", error))
            for (const DeviceNumber device : stack::numbers_in_each(entry.path() / "devices"))
                known_.insert(device);
        for (const auto &entry : fs::directory_iterator("/sys/block", error))
            if (entry.path().filename().string().starts_with("zram"))
                known_.insert(stack::device_number_or_none(stack::read_line(entry.path() / "backing_dev")));
    }

    // A claim of a disk counts for its partitions and the other way round: who has the one keeps others from the other.
    void check_claims()
    {
        const bool whole = known_.contains(devices_[0]);
        bool parts = false;
        for (std::size_t i = devices_.size(); i-- > 0;) {
            const bool claimed = is_claimed(devices_[i]);
            if (claimed && !known_.contains(devices_[i]) && !(i ? whole : parts))
                refuse(devices_[i], "somebody who is not a mounted file system, swap, or another block device that "
                                    "is known here; bcachefs, for one, and ZFS cannot be redirected safely");
            parts |= claimed;
        }
    }

    std::string original_;
    std::vector<DeviceNumber> devices_; // partitions come last
    std::set<DeviceNumber> known_;
};

} // namespace

std::optional<std::string> objection_to(const stack::Mount &mount, bool dax)
{
    if (!known_filesystems.contains(mount.type))
        return ", which is not known to do all of its I/O by bios, and to stop when its device is frozen";
    if (mount.has("dax") || mount.has("dax=always"))
        return ", which accesses the disk directly (DAX), past any redirection";
    const bool by_file = mount.type == "ext4" || mount.type == "xfs";
    if (dax && by_file && !mount.has("dax=never"))
        return ", which may access the disk directly (DAX) for single files";
    return std::nullopt;
}

std::optional<std::string> objection_to(const std::string &target_type)
{
    if (known_targets.contains(target_type))
        return std::nullopt;
    return fmt::format("whose target '{}' is not known to do all of its I/O by bios", target_type);
}

void require_known_users(const std::string &original)
{
    Users(original).check();
}

} // namespace liveblk::interpose
