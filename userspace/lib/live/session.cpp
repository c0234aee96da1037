// SPDX-License-Identifier: GPL-2.0-only
#include "live/session.hpp"

#include "base/error.hpp"
#include "base/privilege.hpp"
#include "live/resume.hpp"
#include "live/suspension.hpp"
#include "live/tables.hpp"
#include "qcow2/maintenance_lock.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>

namespace liveblk::live {
namespace {

using namespace std::chrono_literals;

constexpr auto between_tries = 20ms;
// What a guardian needs, when the one that it guards has been killed.
constexpr auto rescue_time = 5s;
constexpr int reads_beside = 50;

} // namespace

std::optional<dm::Device> find(const std::string &argument)
{
    struct stat st;
    const bool exists = ::stat(argument.c_str(), &st) == 0;
    if (exists && !S_ISBLK(st.st_mode))
        return std::nullopt;
    if (!exists && !may_administer())
        fail("find '{}': there is no such file, and only root may ask for a device of that name (the capability "
             "CAP_SYS_ADMIN is missing)",
             argument);
    const auto device = dm::Device::find(argument);
    if (!device || dm::is_qcow2(device->table()))
        return device;
    if (exists)
        return std::nullopt;
    fail("maintain '{}': this device-mapper device is not a live dm-qcow2 device", argument);
}

dm::Device require_device(const std::string &name)
{
    const auto device = dm::Device::find(name);
    if (!device && !may_administer())
        fail("find the device '{}': {}", name, root_only);
    if (!device)
        fail("find the device '{}': there is none", name);
    return *device;
}

Pause with_suspended(const dm::Device &device, qcow2::Access access, ImageState state, const Work &judge,
                     const Work &work)
{
    return Suspension(device, access, state).edit(judge, work);
}

qcow2::Image read_beside(const dm::Device &device)
{
    const std::string path = dm::parse_qcow2(device.table(), device.name()).image;
    for (int left = reads_beside;; left--) {
        try {
            qcow2::Image image(path, qcow2::Access::read_only_shared);
            std::array<std::byte, qcow2::sector_size> now;
            image.file().read(now, 0);
            // Edits put all in force by a change of the header.
            if (now == image.header().sector)
                return image;
        } catch (const Error &) {
            if (left == 0)
                throw;
        }
        if (left == 0)
            fail("read '{}': it changes all the time", path);
        std::this_thread::sleep_for(between_tries);
    }
}

Resumed complete_and_resume(const dm::Device &device)
{
    const std::string &name = device.name();
    const auto active = table_or_nothing(device.table(), name);
    const auto inactive = table_or_nothing(device.inactive_table(), name);
    if (!active && !inactive)
        fail("resume '{0}': it has no table; 'qcow2-maint detach {0}' removes it", name);
    const dm::Qcow2Table model = active ? *active : *inactive;
    const UniqueFd fd = qcow2::open_image_file(model.image, !model.read_only());
    const qcow2::MaintenanceLock lock = qcow2::MaintenanceLock::wait(fd.get(), model.image, rescue_time);
    // Whoever had the lock has come to an end.
    const dm::Info info = device.info();
    if (info.live_table && !info.suspended)
        return Resumed::was_not_suspended;
    settle(fd.get());
    dm::UdevWork udev;
    // The module knows the file that it has open; another one may have its name by now.
    if (!device.try_resume(udev))
        return info.inactive_table ? Resumed::resumed_with_new_table : Resumed::resumed;
    const auto access = model.has("no_lock") ? qcow2::Access::read_only_shared : qcow2::Access::read_only;
    const qcow2::Header header =
        qcow2::read_header(qcow2::ImageFile(model.image, access, qcow2::reopen_image_file(fd.get(), false)));
    const TableFiles files = open_files(model, qcow2::reopen_image_file(fd.get(), !model.read_only()));
    const bool changed = fit_table(device, model, header, files);
    if (const int number = resume_patiently(device, udev, wait_a_while))
        throw Error(left_suspended(device, fd.get(), number));
    return changed ? Resumed::resumed_with_new_table : Resumed::resumed;
}

std::vector<qcow2::Layer> layers_below(const dm::Device &device)
{
    std::vector<qcow2::Layer> layers;
    for (const dm::Below &below : dm::parse_qcow2(device.table(), device.name()).backing)
        layers.push_back({.name = below.image,
                          .path = below.image,
                          .format = below.format,
                          .fd = qcow2::open_image_file(below.image, false),
                          .below = {},
                          .data = {}});
    return layers;
}

Users users_of(const std::string &path)
{
    Users users;
    struct stat image;
    struct stat other;
    if (::stat(path.c_str(), &image) < 0)
        return users;
    const auto is_it = [&](const std::string &its_image) {
        return ::stat(its_image.c_str(), &other) == 0 && qcow2::is_same_file(image, other);
    };
    const auto add = [](std::string &names, const std::string &name) { names += (names.empty() ? "" : ", ") + name; };
    try {
        for (const dm::Device &device : dm::Device::all()) {
            const auto targets = device.table();
            if (!dm::is_qcow2(targets))
                continue;
            const dm::Qcow2Table table = dm::parse_qcow2(targets, device.name());
            if (is_it(table.image) || (!table.data_file.empty() && is_it(table.data_file)))
                add(users.attached, device.name());
            else if (std::any_of(table.backing.begin(), table.backing.end(),
                                 [&](const dm::Below &below) { return is_it(below.image); }))
                add(users.above, device.name());
        }
    } catch (const Error &) {
        // It is for a message only.
    }
    return users;
}

} // namespace liveblk::live
