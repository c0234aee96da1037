// SPDX-License-Identifier: GPL-2.0-only
#include "device.hpp"

#include <cerrno>
#include <libdevmapper.h>
#include <memory>

namespace hostile {

namespace {

struct TaskDeleter {
    void operator()(dm_task *task) const { dm_task_destroy(task); }
};
using Task = std::unique_ptr<dm_task, TaskDeleter>;

void no_log(int, const char *, int, int, const char *, ...)
{
    // Refusals are what is tested: their text is read from the kernel log.
}

Task make_task(int type, const std::string &name)
{
    static const bool quiet = [] {
        dm_log_with_errno_init(no_log);
        dm_udev_set_sync_support(0);
        return true;
    }();
    Task task(quiet ? dm_task_create(type) : nullptr);
    if (!task || !dm_task_set_name(task.get(), name.c_str()))
        throw std::runtime_error("make a device-mapper request for " + name);
    return task;
}

DmResult run(const Task &task)
{
    if (dm_task_run(task.get())) {
        dm_task_update_nodes();
        return {};
    }
    int error = dm_task_get_errno(task.get());
    return {error ? error : EIO};
}

} // namespace

DmResult dm_create(const std::string &name, std::uint64_t sectors, const std::string &type, const std::string &params,
                   bool read_only)
{
    Task task = make_task(DM_DEVICE_CREATE, name);
    if (!dm_task_add_target(task.get(), 0, sectors, type.c_str(), params.c_str()) ||
        !dm_task_set_add_node(task.get(), DM_ADD_NODE_ON_CREATE) || (read_only && !dm_task_set_ro(task.get())))
        throw std::runtime_error("describe the device " + name);
    return run(task);
}

DmResult dm_remove(const std::string &name)
{
    return run(make_task(DM_DEVICE_REMOVE, name));
}

DmResult dm_suspend(const std::string &name)
{
    return run(make_task(DM_DEVICE_SUSPEND, name));
}

DmResult dm_resume(const std::string &name)
{
    return run(make_task(DM_DEVICE_RESUME, name));
}

std::string dm_status(const std::string &name)
{
    Task task = make_task(DM_DEVICE_STATUS, name);
    if (!run(task).ok())
        return {};
    std::uint64_t start = 0;
    std::uint64_t length = 0;
    char *type = nullptr;
    char *params = nullptr;
    dm_get_next_target(task.get(), nullptr, &start, &length, &type, &params);
    return params ? params : "";
}

std::string dm_number(const std::string &name)
{
    Task task = make_task(DM_DEVICE_INFO, name);
    struct dm_info info {};
    if (!run(task).ok() || !dm_task_get_info(task.get(), &info) || !info.exists)
        return {};
    return std::to_string(info.major) + ":" + std::to_string(info.minor);
}

std::string dm_path(const std::string &name)
{
    return "/dev/mapper/" + name;
}

DmDevice::~DmDevice()
{
    try {
        dm_remove(name_);
    } catch (const std::exception &) {
        // Nothing that a destructor could do about it.
    }
}

} // namespace hostile
