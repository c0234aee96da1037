// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdint>
#include <string>

namespace liveblk::crash {

// A device-mapper device, removed at the end of its life. No udev takes part.
class MappedDevice {
public:
    MappedDevice(const std::string &name, std::uint64_t sectors, const std::string &target,
                 const std::string &arguments);
    MappedDevice(const MappedDevice &) = delete;
    MappedDevice &operator=(const MappedDevice &) = delete;
    ~MappedDevice();

    const std::string &path() const { return path_; }
    // What the destructor does, with errors told.
    void remove();

private:
    std::string name_;
    std::string path_;
    bool present_ = false;
};

// On devices that somebody else made; libdevmapper wants one caller at a time.
void send_message(const std::string &name, const std::string &message);
void suspend_device(const std::string &name);
void resume_device(const std::string &name);

} // namespace liveblk::crash
