// SPDX-License-Identifier: GPL-2.0-only
// Device-mapper devices made and removed in process.
#pragma once

#include "support.hpp"

namespace hostile {

// What device-mapper answered: 0, or the error number.
struct DmResult {
    int error = 0;
    bool ok() const { return error == 0; }
};

DmResult dm_create(const std::string &name, std::uint64_t sectors, const std::string &type, const std::string &params,
                   bool read_only);
DmResult dm_remove(const std::string &name);
DmResult dm_suspend(const std::string &name);
DmResult dm_resume(const std::string &name);
std::string dm_status(const std::string &name);
// "major:minor" as the kernel log names it, empty without such a device.
std::string dm_number(const std::string &name);
std::string dm_path(const std::string &name);

// Removes its device at the end of the scope, if it still is there.
class DmDevice {
public:
    explicit DmDevice(std::string name) : name_(std::move(name)) {}
    DmDevice(const DmDevice &) = delete;
    DmDevice &operator=(const DmDevice &) = delete;
    ~DmDevice();

private:
    std::string name_;
};

} // namespace hostile
