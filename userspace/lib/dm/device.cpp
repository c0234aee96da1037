// SPDX-License-Identifier: GPL-2.0-only
#include "dm/device.hpp"

#include "base/error.hpp"
#include "base/privilege.hpp"
#include "base/signal_shield.hpp"

#include <libdevmapper.h>

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <array>
#include <cstdarg>
#include <cstdio>
#include <memory>
#include <utility>

namespace liveblk::dm {
namespace {

// Of libdevmapper's levels.
constexpr int level_mask = 7;
constexpr int level_error = 3;

// Not a string: C code calls this, through which nothing may be thrown.
std::array<char, 256> last_error = {};

// Without it libdevmapper writes to standard error.
void log_line(int level, const char *, int, int, const char *format, ...)
{
    if ((level & level_mask) > level_error)
        return;
    std::va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(last_error.data(), last_error.size(), format, arguments);
    va_end(arguments);
}

class Task {
public:
    explicit Task(int type)
    {
        static const bool once = [] {
            dm_log_with_errno_init(log_line);
            // Looked up once, and not while a file system is frozen.
            dm_hold_control_dev(1);
            return true;
        }();
        (void)once;
        task_.reset(dm_task_create(type));
        require(task_ != nullptr, "create a device-mapper task");
    }
    Task(int type, const std::string &name) : Task(type)
    {
        require(dm_task_set_name(get(), name.c_str()), fmt::format("name the device '{}'", name));
    }
    Task(int type, unsigned major, unsigned minor) : Task(type)
    {
        require(dm_task_set_major_minor(get(), static_cast<int>(major), static_cast<int>(minor), 0),
                fmt::format("name the device {}:{}", major, minor));
    }

    dm_task *get() const { return task_.get(); }

    void require(bool done, const std::string &what) const
    {
        if (done)
            return;
        if (!may_administer())
            fail("{}: {}", what, root_only);
        const int number = task_ ? dm_task_get_errno(get()) : 0;
        if (number)
            fail_errno(what, number);
        fail("{}: {}", what, last_error[0] ? last_error.data() : "libdevmapper does not say why");
    }

    bool run() const
    {
        last_error[0] = '\0';
        return dm_task_run(get());
    }
    void run(const std::string &what) const { require(run(), what); }

    // Lets udev take part, as dmsetup does.
    void with_udev(std::uint32_t &cookie, const std::string &what, std::uint16_t flags = 0) const
    {
        require(dm_task_set_cookie(get(), &cookie, flags), what);
    }

    void add_target(const Target &target, const std::string &what) const
    {
        require(dm_task_add_target(get(), target.start, target.length, target.type.c_str(), target.params.c_str()),
                what);
    }

private:
    struct Destroy {
        void operator()(dm_task *task) const { dm_task_destroy(task); }
    };
    std::unique_ptr<dm_task, Destroy> task_;
};

dm_info info_of(const Task &task, const std::string &name)
{
    dm_info info = {};
    task.require(dm_task_get_info(task.get(), &info), fmt::format("get the state of '{}'", name));
    return info;
}

std::uint16_t udev_flags(Names names)
{
    switch (names) {
    case Names::if_no_other:
        return DM_UDEV_LOW_PRIORITY_FLAG;
    case Names::none:
        return DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG | DM_UDEV_DISABLE_DISK_RULES_FLAG |
               DM_UDEV_DISABLE_OTHER_RULES_FLAG;
    default:
        return 0;
    }
}

// Name and number, if there is such a device.
struct Found {
    std::string name;
    unsigned major;
    unsigned minor;
};

std::optional<Found> look_for(const Task &task)
{
    dm_info info = {};
    if (!task.run() || !dm_task_get_info(task.get(), &info) || !info.exists)
        return std::nullopt;
    const char *name = dm_task_get_name(task.get());
    return Found{name ? name : "", info.major, info.minor};
}

std::optional<Found> look_for(const std::string &name_or_path)
{
    const std::string folder = std::string(dm_dir()) + "/";
    // Not as a file: the working directory may lie on the device, which may be suspended.
    if (name_or_path.find('/') == std::string::npos && !name_or_path.empty())
        if (auto found = look_for(Task(DM_DEVICE_INFO, name_or_path)))
            return found;
    struct stat st;
    if (::stat(name_or_path.c_str(), &st) == 0 && S_ISBLK(st.st_mode))
        return look_for(Task(DM_DEVICE_INFO, ::major(st.st_rdev), ::minor(st.st_rdev)));
    const std::string name = name_or_path.substr(name_or_path.starts_with(folder) ? folder.size() : 0);
    if (name.empty() || name.find('/') != std::string::npos)
        return std::nullopt;
    return look_for(Task(DM_DEVICE_INFO, name));
}

} // namespace

UdevWork::UdevWork(UdevWork &&other) noexcept : cookie_(std::exchange(other.cookie_, 0)) {}

UdevWork &UdevWork::operator=(UdevWork &&other) noexcept
{
    std::swap(cookie_, other.cookie_);
    return *this;
}

UdevWork::~UdevWork()
{
    if (cookie_)
        dm_udev_wait(cookie_);
    // Where there is no udev it is up to libdevmapper.
    dm_task_update_nodes();
}

std::optional<Device> Device::find(const std::string &name_or_path)
{
    std::optional<Found> found;
    try {
        found = look_for(name_or_path);
    } catch (const Error &) {
        // No device-mapper at all, or no permission to ask it.
    }
    if (!found)
        return std::nullopt;
    return Device(found->name, found->major, found->minor);
}

std::vector<Device> Device::all()
{
    std::vector<Device> devices;
    const Task task(DM_DEVICE_LIST);
    task.run("list the device-mapper devices");
    const dm_names *entry = dm_task_get_names(task.get());
    if (!entry || !entry->dev)
        return devices;
    for (;;) {
        devices.push_back(Device(entry->name, ::major(entry->dev), ::minor(entry->dev)));
        if (!entry->next)
            return devices;
        entry = reinterpret_cast<const dm_names *>(reinterpret_cast<const char *>(entry) + entry->next);
    }
}

Device Device::create(const std::string &name, const Target &target, bool read_only, Names names)
{
    const std::string what = fmt::format("create the device '{}'", name);
    const Task task(DM_DEVICE_CREATE, name);
    task.add_target(target, what);
    if (read_only)
        task.require(dm_task_set_ro(task.get()), what);
    task.require(dm_task_set_add_node(task.get(), DM_ADD_NODE_ON_CREATE), what);
    std::uint32_t cookie = 0;
    task.with_udev(cookie, what, udev_flags(names));
    const UdevWork work(cookie);
    task.run(what);
    const dm_info info = info_of(task, name);
    return Device(name, info.major, info.minor);
}

std::string Device::path() const
{
    return fmt::format("{}/{}", dm_dir(), name_);
}

Info Device::info() const
{
    const Task task(DM_DEVICE_INFO, major_, minor_);
    task.run(fmt::format("get the state of '{}'", name_));
    const dm_info info = info_of(task, name_);
    if (!info.exists)
        fail("get the state of '{}': there is no such device any more", name_);
    return {.suspended = info.suspended != 0,
            .live_table = info.live_table != 0,
            .inactive_table = info.inactive_table != 0,
            .read_only = info.read_only != 0,
            .open_count = info.open_count};
}

std::vector<Target> Device::read_targets(int type, bool inactive) const
{
    const std::string what = fmt::format("read the table of '{}'", name_);
    const Task task(type, major_, minor_);
    if (inactive)
        task.require(dm_task_query_inactive_table(task.get()), what);
    task.run(what);
    std::vector<Target> targets;
    void *next = nullptr;
    do {
        Target target;
        char *kind = nullptr;
        char *params = nullptr;
        next = dm_get_next_target(task.get(), next, &target.start, &target.length, &kind, &params);
        if (!kind)
            break;
        target.type = kind;
        target.params = params ? params : "";
        targets.push_back(std::move(target));
    } while (next);
    return targets;
}

std::vector<Target> Device::table() const
{
    return read_targets(DM_DEVICE_TABLE, false);
}

std::vector<Target> Device::inactive_table() const
{
    return read_targets(DM_DEVICE_TABLE, true);
}

std::vector<Target> Device::status() const
{
    return read_targets(DM_DEVICE_STATUS, false);
}

void Device::message(const std::string &text) const
{
    const std::string what = fmt::format("send '{}' to '{}'", text, name_);
    const Task task(DM_DEVICE_TARGET_MSG, major_, minor_);
    task.require(dm_task_set_sector(task.get(), 0) && dm_task_set_message(task.get(), text.c_str()), what);
    task.run(what);
}

void Device::suspend() const
{
    const std::string what = fmt::format("suspend '{}'", name_);
    const Task task(DM_DEVICE_SUSPEND, major_, minor_);
    if (task.run())
        return;
    if (dm_task_get_errno(task.get()) == EINTR)
        throw Interrupted(what + ": interrupted by a signal");
    task.require(false, what);
}

int Device::try_resume(UdevWork &work) const noexcept
{
    try {
        const Task task(DM_DEVICE_RESUME, major_, minor_);
        std::uint32_t cookie = 0;
        // That udev cannot be waited for keeps nothing suspended.
        if (dm_task_set_cookie(task.get(), &cookie, 0))
            work = UdevWork(cookie);
        if (task.run())
            return 0;
        const int number = dm_task_get_errno(task.get());
        return number ? number : EIO;
    } catch (const std::exception &) {
        return ENOMEM;
    }
}

void Device::load(const Target &target, bool read_only) const
{
    const std::string what = fmt::format("load a table of {} sectors into '{}'", target.length, name_);
    const Task task(DM_DEVICE_RELOAD, major_, minor_);
    task.add_target(target, what);
    if (read_only)
        task.require(dm_task_set_ro(task.get()), what);
    task.run(what);
}

void Device::clear() const
{
    Task(DM_DEVICE_CLEAR, major_, minor_).run(fmt::format("clear the inactive table of '{}'", name_));
}

void Device::remove() const
{
    const std::string what = fmt::format("remove the device '{}'", name_);
    const Task task(DM_DEVICE_REMOVE, name_);
    // What udev looks at is in use for a moment.
    task.require(dm_task_retry_remove(task.get()), what);
    std::uint32_t cookie = 0;
    task.with_udev(cookie, what);
    const UdevWork work(cookie);
    task.run(what);
}

bool has_target(const std::string &type)
{
    const Task task(DM_DEVICE_LIST_VERSIONS);
    task.run("list the device-mapper targets");
    const dm_versions *entry = dm_task_get_versions(task.get());
    while (entry) {
        if (type == entry->name)
            return true;
        if (!entry->next)
            break;
        entry = reinterpret_cast<const dm_versions *>(reinterpret_cast<const char *>(entry) + entry->next);
    }
    return false;
}

} // namespace liveblk::dm
