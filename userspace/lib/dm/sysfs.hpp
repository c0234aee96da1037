// SPDX-License-Identifier: GPL-2.0-only
// Block devices as sysfs has them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace liveblk::stack {

// Major and minor number, in the form of blk-interposer's answers; 0 is no device.
using DeviceNumber = std::uint64_t;

DeviceNumber make_number(dev_t device);
inline DeviceNumber make_number(unsigned major, unsigned minor)
{
    return static_cast<DeviceNumber>(major) << 32 | minor;
}
inline unsigned major_of(DeviceNumber device)
{
    return static_cast<unsigned>(device >> 32);
}
inline unsigned minor_of(DeviceNumber device)
{
    return static_cast<unsigned>(device);
}

// "MAJOR:MINOR"; 0 if it is something else.
DeviceNumber parse_number(const std::string &text);
// Throws Error if the path is no block device.
DeviceNumber device_number(const std::string &path);
// 0 if it is none.
DeviceNumber device_number_or_none(const std::string &path);

// The folder of a device; empty if it has none.
std::filesystem::path sysfs_of(DeviceNumber device);
// What it is called in /dev; its number, in that form, if it is not known.
std::string node_of(DeviceNumber device);

// An attribute's first line; empty if it cannot be read.
std::string read_line(const std::filesystem::path &path);
// The device whose folder this is; 0 if it is no device's.
DeviceNumber number_in(const std::filesystem::path &folder);
// Those that a folder has links to, as "slaves" and "holders".
std::vector<DeviceNumber> numbers_in_each(const std::filesystem::path &folder);

// The disk that a partition is on; 0 if it is no partition.
DeviceNumber disk_of(DeviceNumber partition);
// Whether the device is, or is a partition of, the other one.
bool is_part_of(DeviceNumber device, DeviceNumber whole);
// The device and its partitions.
std::vector<DeviceNumber> with_partitions(DeviceNumber device);

} // namespace liveblk::stack
