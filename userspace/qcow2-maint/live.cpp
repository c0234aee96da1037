// SPDX-License-Identifier: GPL-2.0-only
#include "live.hpp"

#include "error.hpp"
#include "image_lock.hpp"
#include "maintenance_lock.hpp"
#include "quiet.hpp"
#include "resize.hpp"
#include "signal_shield.hpp"

#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <thread>

namespace liveblk::maint {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// Between our letting go of an image and the device's taking it, a short call of qemu-img may get hold of it.
constexpr auto patience = 10s;
constexpr auto between_tries = 20ms;
constexpr int tries = 5;
constexpr int reads_beside = 50;

struct stat identity(int fd, const std::string &path)
{
    struct stat st;
    if (::fstat(fd, &st) < 0)
        fail_errno(fmt::format("look at '{}'", path));
    return st;
}

bool same_file(const struct stat &a, const struct stat &b)
{
    if (S_ISBLK(a.st_mode) && S_ISBLK(b.st_mode))
        return a.st_rdev == b.st_rdev;
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

// Returns 0 or the number of the last error.
int resume_patiently(const dm::Device &device, dm::UdevWork &udev)
{
    const auto limit = Clock::now() + patience;
    for (int failed = 0;;) {
        const int number = device.try_resume(udev);
        if (number != EBUSY)
            failed++;
        if (!number || failed == tries || Clock::now() > limit)
            return number;
        std::this_thread::sleep_for(between_tries);
    }
}

bool may_be_suspended(const dm::Device &device)
{
    try {
        return device.info().suspended;
    } catch (const Error &) {
        return true;
    }
}

std::string left_suspended(const dm::Device &device, int image_fd, int number)
{
    const std::string holders = number == EBUSY ? qcow2::lock_holders(image_fd) : std::string();
    return fmt::format("'{0}' could not be resumed and is left suspended: {1}{2}{3}; see the kernel log, then run "
                       "'qcow2-maint resume {0}'",
                       device.name(), std::generic_category().message(number),
                       holders.empty() ? "" : ", the image is in use by ", holders);
}

std::optional<dm::Qcow2Table> table_or_nothing(const std::vector<dm::Target> &table, const std::string &name)
{
    if (table.empty())
        return std::nullopt;
    return dm::parse_qcow2(table, name);
}

// The size of a device is that of its table: sees to it that the next resume is with one that fits the image, whose
// header has been read. Returns whether that is a new one.
bool fit_table(const dm::Device &device, std::uint64_t size, int table_fd)
{
    const std::uint64_t sectors = size / qcow2::sector_size;
    const auto active = table_or_nothing(device.table(), device.name());
    const auto inactive = table_or_nothing(device.inactive_table(), device.name());
    const dm::Qcow2Table &model = active ? *active : inactive.value();
    if (inactive && inactive->sectors == sectors && inactive->image == model.image)
        return true;
    if (inactive)
        device.clear();
    if (active && active->sectors == sectors)
        return false;
    device.load(model.with_fd(table_fd, sectors), model.read_only());
    return true;
}

// A device with the files of its image open.
class Session {
public:
    Session(const dm::Device &device, qcow2::Access access);

    Pause run(const Work &judge, const Work &work);

private:
    void look_first(const Work &judge) const;
    void work_on_image(const Work &work, const SignalShield &shield);
    void follow_size(qcow2::Image &image, Progress &progress);
    int back_to_life(dm::UdevWork &udev) const;

    dm::Device device_;
    dm::Qcow2Table table_;
    qcow2::Access access_;
    UniqueFd image_fd_; // given to the image, so that its lock goes when that ends
    UniqueFd table_fd_; // for a new table
    MaintenanceLock lock_;
};

Session::Session(const dm::Device &device, qcow2::Access access)
    : device_(device),
      table_(dm::parse_qcow2(device.table(), device.name())),
      access_(access),
      image_fd_(qcow2::open_image_file(table_.image, access == qcow2::Access::read_write)),
      table_fd_(qcow2::open_image_file(table_.image, !table_.read_only())),
      lock_(image_fd_.get(), table_.image)
{
    const std::string &name = device_.name();
    // Another call may have changed it until now.
    table_ = dm::parse_qcow2(device_.table(), name);
    if (device_.info().suspended)
        fail("suspend '{0}': it is suspended already; 'qcow2-maint resume {0}' resumes it", name);
    if (access == qcow2::Access::read_write && table_.read_only())
        fail("change the image of '{}': it is attached read-only", name);
    const bool locked = table_.has("no_lock") || qcow2::image_is_locked(image_fd_.get(), table_.image);
    if (!locked || !same_file(identity(image_fd_.get(), table_.image), identity(table_fd_.get(), table_.image)))
        fail("maintain '{}': '{}' is not the file that the device has open", name, table_.image);
}

void Session::look_first(const Work &judge) const
{
    if (!judge)
        return;
    qcow2::Image image = read_beside(device_);
    Progress progress;
    judge(image, progress);
}

void Session::follow_size(qcow2::Image &image, Progress &progress)
{
    image.reload();
    if (image.header().size == table_.sectors * qcow2::sector_size)
        return;
    try {
        fit_table(device_, image.header().size, table_fd_.get());
    } catch (const Error &) {
        // The old table needs the old size.
        qcow2::resize_image(image, table_.sectors * qcow2::sector_size, qcow2::Shrink::allow, progress);
        throw;
    }
}

// After a failure that may have come when the image was changed already.
int Session::back_to_life(dm::UdevWork &udev) const
{
    if (!may_be_suspended(device_))
        return 0;
    try {
        const qcow2::ImageFile file(table_.image, qcow2::Access::read_only_shared,
                                    qcow2::open_image_file(fmt::format("/proc/self/fd/{}", table_fd_.get()), false));
        fit_table(device_, qcow2::read_header(file).size, table_fd_.get());
    } catch (const std::exception &) {
        // What cannot be read or loaded now is said by the resume.
    }
    return resume_patiently(device_, udev);
}

void Session::work_on_image(const Work &work, const SignalShield &shield)
{
    shield.check();
    qcow2::Image image(qcow2::ImageFile(table_.image, access_, std::move(image_fd_)));
    Progress breakable([&shield] { shield.check(); });
    work(image, breakable);
    // What the work has done stays done.
    Progress steady([] {});
    if (access_ == qcow2::Access::read_write)
        follow_size(image, steady);
}

Pause Session::run(const Work &judge, const Work &work)
{
    look_first(judge);
    write_out_mounts(device_.major(), device_.minor());
    if (!table_.read_only())
        device_.message("commit");
    stay_in_memory();
    dm::UdevWork udev;
    SignalShield shield;
    const auto start = Clock::now();
    try {
        shield.breakable([this] { device_.suspend(); });
        work_on_image(work, shield);
    } catch (const std::exception &e) {
        if (const int number = back_to_life(udev))
            fail("{}; {}", e.what(), left_suspended(device_, table_fd_.get(), number));
        if (shield.interrupted())
            fmt::print(stderr, "qcow2-maint: {}; '{}' goes on\n", e.what(), device_.name());
        throw;
    }
    if (const int number = resume_patiently(device_, udev))
        throw Error(left_suspended(device_, table_fd_.get(), number));
    const auto end = Clock::now();
    if (shield.interrupted())
        fmt::print(stderr, "qcow2-maint: '{}' was changed before the signal came\n", device_.name());
    return {device_.name(), std::chrono::duration<double, std::milli>(end - start).count()};
}

} // namespace

std::optional<dm::Device> find_live(const std::string &argument)
{
    struct stat st;
    const bool exists = ::stat(argument.c_str(), &st) == 0;
    if (exists && !S_ISBLK(st.st_mode))
        return std::nullopt;
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
    if (!device)
        fail("find the device '{}': there is none, or you may not ask for it", name);
    return *device;
}

Pause with_suspended(const dm::Device &device, qcow2::Access access, const Work &judge, const Work &work)
{
    return Session(device, access).run(judge, work);
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
    const MaintenanceLock lock(fd.get(), model.image);
    // Whoever had the lock has come to an end.
    const dm::Info info = device.info();
    if (info.live_table && !info.suspended)
        return Resumed::was_not_suspended;
    std::uint64_t size = 0;
    {
        const auto access = model.has("no_lock") ? qcow2::Access::read_only_shared : qcow2::Access::read_only;
        size = qcow2::read_header(qcow2::ImageFile(model.image, access)).size;
    }
    const bool changed = fit_table(device, size, fd.get());
    dm::UdevWork udev;
    if (const int number = resume_patiently(device, udev))
        throw Error(left_suspended(device, fd.get(), number));
    return changed ? Resumed::resumed_with_new_table : Resumed::resumed;
}

std::string devices_of(const std::string &path)
{
    std::string names;
    struct stat image;
    struct stat other;
    if (::stat(path.c_str(), &image) < 0)
        return names;
    try {
        for (const dm::Device &device : dm::Device::all()) {
            const auto table = device.table();
            if (!dm::is_qcow2(table))
                continue;
            const std::string its_image = dm::parse_qcow2(table, device.name()).image;
            if (::stat(its_image.c_str(), &other) == 0 && same_file(image, other))
                names += (names.empty() ? "" : ", ") + device.name();
        }
    } catch (const Error &) {
        // It is for a message only.
    }
    return names;
}

} // namespace liveblk::maint
