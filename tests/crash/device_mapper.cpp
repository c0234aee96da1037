// SPDX-License-Identifier: GPL-2.0-only
#include "device_mapper.hpp"

#include "error.hpp"

#include <fmt/core.h>

#include <libdevmapper.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <stdexcept>

namespace liveblk::crash {
namespace {

using Task = std::unique_ptr<dm_task, decltype(&dm_task_destroy)>;

Task make_task(int type, const std::string &name)
{
    ::setenv("DM_DISABLE_UDEV", "1", 1);
    Task task(dm_task_create(type), dm_task_destroy);
    if (!task || !dm_task_set_name(task.get(), name.c_str()))
        throw std::runtime_error("device-mapper task for " + name);
    return task;
}

void run(const Task &task, const std::string &what)
{
    if (!dm_task_run(task.get()))
        test::throw_errno(what, dm_task_get_errno(task.get()));
}

void run_simple(int type, const std::string &name, const char *what)
{
    run(make_task(type, name), fmt::format("{} device {}", what, name));
    dm_task_update_nodes();
}

} // namespace

MappedDevice::MappedDevice(const std::string &name, std::uint64_t sectors, const std::string &target,
                           const std::string &arguments)
    : name_(name)
{
    const Task task = make_task(DM_DEVICE_CREATE, name);
    if (!dm_task_add_target(task.get(), 0, sectors, target.c_str(), arguments.c_str()))
        throw std::runtime_error("device-mapper table for " + name);
    run(task, fmt::format("create device {} as '0 {} {} {}'", name, sectors, target, arguments));
    dm_task_update_nodes();
    present_ = true;
    dm_info info{};
    if (!dm_task_get_info(task.get(), &info))
        throw std::runtime_error("device number of " + name);
    path_ = fmt::format("/dev/dm-{}", info.minor);
}

MappedDevice::~MappedDevice()
{
    try {
        remove();
    } catch (const std::exception &error) {
        std::cerr << error.what() << '\n';
    }
}

void MappedDevice::remove()
{
    if (!present_)
        return;
    present_ = false;
    run_simple(DM_DEVICE_REMOVE, name_, "remove");
}

void send_message(const std::string &name, const std::string &message)
{
    const Task task = make_task(DM_DEVICE_TARGET_MSG, name);
    if (!dm_task_set_sector(task.get(), 0) || !dm_task_set_message(task.get(), message.c_str()))
        throw std::runtime_error("device-mapper message for " + name);
    run(task, fmt::format("send '{}' to device {}", message, name));
}

void suspend_device(const std::string &name)
{
    run_simple(DM_DEVICE_SUSPEND, name, "suspend");
}

void resume_device(const std::string &name)
{
    run_simple(DM_DEVICE_RESUME, name, "resume");
}

} // namespace liveblk::crash
