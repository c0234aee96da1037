// SPDX-License-Identifier: GPL-2.0-only
#include "filesystems.hpp"

#include "base/error.hpp"
#include "dm/mounts.hpp"
#include "dm/redirections.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace liveblk::interpose {
namespace {

// Those whose I/O goes through the device, as it is attached to them, or to one of these.
std::set<stack::DeviceNumber> originals_above(stack::DeviceNumber device)
{
    const auto pairs = stack::current_redirections();
    std::set<stack::DeviceNumber> originals;
    for (std::vector<stack::DeviceNumber> todo = {device}; !todo.empty();) {
        const stack::DeviceNumber target = todo.back();
        todo.pop_back();
        for (const stack::Redirection &pair : pairs)
            if (pair.target == target && originals.insert(pair.original).second)
                todo.push_back(pair.original);
    }
    return originals;
}

// Those without an entry of their own in a list of devices that the module freezes.
bool is_unlisted(const stack::Mount &mount, stack::DeviceNumber device, const std::set<stack::DeviceNumber> &above)
{
    const bool by_device = mount.type != "btrfs";
    if (by_device && stack::is_part_of(mount.device, device))
        return false;
    const auto devices = by_device ? std::vector{mount.device} : stack::devices_of(mount);
    return std::any_of(devices.begin(), devices.end(), [&](stack::DeviceNumber one) {
        return stack::is_part_of(one, device) || above.contains(one) || above.contains(stack::disk_of(one));
    });
}

} // namespace

std::vector<UniqueFd> unlisted_filesystems(const std::string &device)
{
    const stack::DeviceNumber number = stack::device_number(device);
    const auto above = originals_above(number);
    // A btrfs has one number for all of it in mountinfo.
    std::map<stack::DeviceNumber, UniqueFd> files;
    std::map<stack::DeviceNumber, std::string> hidden;
    for (const stack::Mount &mount : stack::all_mounts()) {
        if (files.contains(mount.device) || !is_unlisted(mount, number, above))
            continue;
        if (UniqueFd file = stack::open_mount(mount))
            files.emplace(mount.device, std::move(file));
        else
            hidden.emplace(mount.device, fmt::format("{} on '{}'", mount.type, mount.point));
    }
    for (const auto &[where, what] : hidden)
        if (!files.contains(where))
            fail("freeze the {} of '{}': another mount hides it", what, device);
    std::vector<UniqueFd> result;
    for (auto &[where, file] : files)
        result.push_back(std::move(file));
    return result;
}

} // namespace liveblk::interpose
