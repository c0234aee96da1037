// SPDX-License-Identifier: GPL-2.0-only
// What block devices are made of, as sysfs has it.
#pragma once

#include "unique_fd.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace liveblk::interpose {

// Major and minor number, in the form of the kernel's answers.
using DeviceNumber = std::uint64_t;

// Throws Error if the path is no block device.
DeviceNumber device_number(const std::string &path);

// Whether the device is, or is a partition of, the other one.
bool is_part_of(DeviceNumber device, DeviceNumber whole);

// Whether what is written to the one ends up in the other: through partitions, device-mapper, md, and loop devices
// with the file systems that their files are on. What sysfs does not tell, as of a file on a network, leads nowhere.
bool leads_to(DeviceNumber from, DeviceNumber to);

// The devices that the file system of a file is on; for btrfs that may be several. Throws if the path is not there.
std::vector<DeviceNumber> devices_below(const std::string &path);

// One file of each mounted file system on the device, or on a partition of it, that the kernel does not find by its
// block device, as btrfs.
std::vector<UniqueFd> unlisted_filesystems(const std::string &device);

} // namespace liveblk::interpose
