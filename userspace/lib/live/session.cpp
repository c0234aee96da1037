// SPDX-License-Identifier: GPL-2.0-only
#include "live/session.hpp"

#include "base/error.hpp"
#include "base/privilege.hpp"
#include "base/signal_shield.hpp"
#include "dm/block_stack.hpp"
#include "live/guardian.hpp"
#include "live/quiet.hpp"
#include "qcow2/image_lock.hpp"
#include "qcow2/maintenance_lock.hpp"
#include "qcow2/resize.hpp"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <thread>
#include <utility>

namespace liveblk::live {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// Between our letting go of an image and the device's taking it, a short call of qemu-img may get hold of it.
constexpr auto patience = 10s;
constexpr auto between_tries = 20ms;
// What a guardian needs, when the one that it guards has been killed.
constexpr auto rescue_time = 5s;
constexpr int tries = 5;
constexpr int reads_beside = 50;

// What a new table is loaded with, open: the files of the image and of those below.
struct TableFiles {
    UniqueFd image;
    UniqueFd data; // if it is external
    std::vector<UniqueFd> backing;
};

TableFiles open_files(const dm::Qcow2Table &table, UniqueFd image)
{
    TableFiles files = {.image = std::move(image), .data = {}, .backing = {}};
    if (!table.data_file.empty())
        files.data = qcow2::open_image_file(table.data_file, !table.read_only());
    for (const dm::Below &below : table.backing)
        files.backing.push_back(qcow2::open_image_file(below.image, false));
    return files;
}

void load(const dm::Device &device, const dm::Qcow2Table &table, const TableFiles &files)
{
    std::vector<int> backing;
    for (const UniqueFd &fd : files.backing)
        backing.push_back(fd.get());
    device.load(table.with_fds(files.image.get(), backing, files.data.get(), table.sectors), table.read_only());
}

// Asked whether to wait on for somebody who has the image; the argument is how long that has been.
using Wait = std::function<bool(Clock::duration)>;

bool wait_a_while(Clock::duration so_far)
{
    return so_far < patience;
}

// Returns 0 or the number of the last error.
int resume_patiently(const dm::Device &device, dm::UdevWork &udev, const Wait &wait)
{
    const auto start = Clock::now();
    for (int failed = 0;;) {
        const int number = device.try_resume(udev);
        if (number != EBUSY)
            failed++;
        if (!number || failed == tries || (number == EBUSY && !wait(Clock::now() - start)))
            return number;
        std::this_thread::sleep_for(between_tries);
    }
}

bool may_be_suspended(const dm::Device &device)
{
    try {
        return device.info().suspended;
    } catch (const std::exception &) {
        return true;
    }
}

// For what lasts, on a terminal that takes it: nothing else may be waited for now.
void say_if_possible(const std::string &text)
{
    pollfd terminal = {.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
    if (::isatty(STDERR_FILENO) && ::poll(&terminal, 1, 0) == 1 && (terminal.revents & POLLOUT))
        (void)!::write(STDERR_FILENO, text.data(), text.size());
}

std::string left_suspended(const dm::Device &device, int image_fd, int number)
{
    const std::string holders = number == EBUSY ? qcow2::lock_holders(image_fd) : std::string();
    return fmt::format("'{0}' could not be resumed and is left suspended: {1}{2}{3}; see the kernel log, then run "
                       "'qcow2-maint resume {0}'",
                       device.name(), std::generic_category().message(number),
                       holders.empty() ? "" : ", the image is in use by ", holders);
}

// Whoever was killed may have written a header and not made it durable. The device writes to what that has freed.
void settle(int image_fd)
{
    // An error is that of the device too, which goes on from what is there.
    (void)::fdatasync(image_fd);
}

std::optional<dm::Qcow2Table> table_or_nothing(const std::vector<dm::Target> &table, const std::string &name)
{
    if (table.empty())
        return std::nullopt;
    return dm::parse_qcow2(table, name);
}

// Sees to it that the next resume is with a table that fits the image, whose header has been read: the size of a device
// is that of its table, and an image that needs a repair can only be read. Returns whether that is a new one.
bool fit_table(const dm::Device &device, const qcow2::Header &header, const TableFiles &files)
{
    const auto active = table_or_nothing(device.table(), device.name());
    const auto inactive = table_or_nothing(device.inactive_table(), device.name());
    dm::Qcow2Table wanted = active ? *active : inactive.value();
    wanted.sectors = header.size / qcow2::sector_size;
    if ((header.incompatible & (qcow2::incompat_corrupt | qcow2::incompat_dirty)) && !wanted.read_only())
        wanted.arguments.emplace_back("read_only");
    if (inactive == wanted)
        return true;
    if (inactive)
        device.clear();
    if (active == wanted)
        return false;
    load(device, wanted, files);
    return true;
}

// A device with the files of its image open.
class Session {
public:
    Session(const dm::Device &device, qcow2::Access access, ImageState state);

    Pause run(const Work &judge, const Work &work);

private:
    void require_its_files() const;
    void require_elsewhere() const;
    void look_first(const Work &judge) const;
    void require_unchanged(bool suspended) const;
    qcow2::Image open_image();
    void work_on_image(const Work &work, const SignalShield &shield);
    void follow_header(qcow2::Image &image, Progress &progress);
    int resume(dm::UdevWork &udev, const Wait &wait) const noexcept;

    dm::Device device_;
    dm::Qcow2Table table_;
    qcow2::Access access_;
    ImageState state_;
    UniqueFd image_fd_; // given to the image, so that its lock goes when that ends
    TableFiles files_;  // for a new table
    qcow2::MaintenanceLock lock_;
};

Session::Session(const dm::Device &device, qcow2::Access access, ImageState state)
    : device_(device),
      table_(dm::parse_qcow2(device.table(), device.name())),
      access_(access),
      state_(state),
      image_fd_(qcow2::open_image_file(table_.image, access == qcow2::Access::read_write)),
      files_(open_files(table_, qcow2::open_image_file(table_.image, !table_.read_only()))),
      lock_(image_fd_.get(), table_.image)
{
    const std::string &name = device_.name();
    // Another call may have changed it until now.
    const dm::Qcow2Table table = dm::parse_qcow2(device_.table(), name);
    if (table.backing != table_.backing)
        fail("maintain '{}': its table has got other backing images meanwhile", name);
    if (table.data_file != table_.data_file)
        fail("maintain '{}': its table has got another data file meanwhile", name);
    table_ = table;
    require_unchanged(false);
    if (access == qcow2::Access::read_write && table_.read_only())
        fail("change the image of '{}': it is attached read-only", name);
    if (access == qcow2::Access::read_write && table_.has("no_lock"))
        fail("change the image of '{}': it is attached with no_lock, so nothing tells that '{}' is its file", name,
             table_.image);
    require_its_files();
    require_elsewhere();
}

// Those that the module has open, which its locks on them show.
void Session::require_its_files() const
{
    const auto locked = [this](const UniqueFd &fd, const std::string &path) {
        return table_.has("no_lock") || qcow2::image_is_locked(fd.get(), path);
    };
    const auto require = [this](bool is_it, const std::string &path) {
        if (!is_it)
            fail("maintain '{}': '{}' is not the file that the device has open", device_.name(), path);
    };
    require(locked(image_fd_, table_.image) && qcow2::is_same_file(image_fd_.get(), files_.image.get()), table_.image);
    if (!table_.data_file.empty())
        require(locked(files_.data, table_.data_file), table_.data_file);
    for (std::size_t i = 0; i < table_.backing.size(); i++)
        require(locked(files_.backing[i], table_.backing[i].image), table_.backing[i].image);
}

// Nobody could write the image, or read it, while the device is suspended.
void Session::require_elsewhere() const
{
    const auto number = stack::make_number(device_.major(), device_.minor());
    for (const std::string &path : table_.paths()) {
        try {
            stack::BlockStack stack;
            if (const auto way = stack.way_of_file(path, number))
                fail("suspend '{}': its image '{}' is on the device itself: {}", device_.name(), path,
                     stack::describe(*way));
        } catch (const stack::Hidden &) {
            // Whoever attached it had another view; tables by hand alone can lead back.
        }
    }
}

// From the look at it until the suspend, and on from there: others may use device-mapper too.
void Session::require_unchanged(bool suspended) const
{
    const std::string &name = device_.name();
    const dm::Info info = device_.info();
    if (info.suspended && !suspended)
        fail("suspend '{0}': it is suspended already; 'qcow2-maint resume {0}' resumes it", name);
    if (info.suspended != suspended)
        fail("work on '{}': somebody has resumed it meanwhile", name);
    if (info.inactive_table)
        fail("suspend '{0}': somebody has loaded a table for its next resume; 'dmsetup clear {0}' takes that away",
             name);
    if (dm::parse_qcow2(device_.table(), name) != table_)
        fail("suspend '{}': its table has been changed meanwhile", name);
    const auto status = device_.status();
    if (!suspended && state_ == ImageState::sound && status.size() == 1 && status[0].params.starts_with("fail "))
        fail("suspend '{0}': its image was found corrupt in use, and could only be attached read-only afterwards; "
             "detach it and repair it, or run 'qcow2-maint check --repair all {0}'",
             name);
}

void Session::look_first(const Work &judge) const
{
    if (!judge)
        return;
    qcow2::Image image = read_beside(device_);
    Progress progress;
    judge(image, progress);
}

void Session::follow_header(qcow2::Image &image, Progress &progress)
{
    const std::uint64_t old_size = table_.sectors * qcow2::sector_size;
    image.reload();
    const std::uint64_t size = image.header().size;
    try {
        fit_table(device_, image.header(), files_);
    } catch (const Error &e) {
        if (size == old_size)
            throw;
        // The old table needs the old size.
        // If that is the larger one, a backing file may show where data is lost.
        qcow2::resize_image(image, old_size, qcow2::Shrink::allow, 0, progress);
        if (size < old_size)
            fail("{}; it has its old size again, but what lay behind {} bytes is lost", e.what(), size);
        throw;
    }
}

// Also after a failure, which may have come when the image was changed already. Returns 0 or the number of the error.
int Session::resume(dm::UdevWork &udev, const Wait &wait) const noexcept
{
    if (!may_be_suspended(device_))
        return 0;
    settle(files_.image.get());
    try {
        const qcow2::ImageFile file(table_.image, qcow2::Access::read_only_shared,
                                    qcow2::reopen_image_file(files_.image.get(), false));
        fit_table(device_, qcow2::read_header(file), files_);
    } catch (const std::exception &) {
        // What cannot be read or loaded now is said by the resume.
    }
    return resume_patiently(device_, udev, wait);
}

qcow2::Image Session::open_image()
{
    try {
        return qcow2::Image(qcow2::ImageFile(table_.image, access_, std::move(image_fd_)));
    } catch (const qcow2::ImageInUse &e) {
        if (e.holder_is_known())
            throw;
        fail("work on '{}': the device could not write all of it and keeps it; the kernel log says why", table_.image);
    }
}

void Session::work_on_image(const Work &work, const SignalShield &shield)
{
    shield.check();
    require_unchanged(true);
    qcow2::Image image = open_image();
    Progress breakable([&shield] { shield.check(); });
    work(image, breakable);
    // What the work has done stays done.
    Progress steady([] {});
    if (access_ == qcow2::Access::read_write)
        follow_header(image, steady);
}

Pause Session::run(const Work &judge, const Work &work)
{
    look_first(judge);
    write_out_mounts(device_.major(), device_.minor());
    if (!table_.read_only())
        device_.message("commit");
    stay_in_memory();
    SignalShield shield;
    dm::UdevWork udev;
    const Guardian guardian(
        [this] {
            // The lock of the image must not outlive the one who works.
            image_fd_ = UniqueFd();
            stay_in_memory();
        },
        [this] {
            dm::UdevWork its_udev;
            (void)resume(its_udev, [](Clock::duration) { return true; });
        });
    bool said = false;
    const Wait until_signal = [&](Clock::duration so_far) {
        if (so_far > patience && !std::exchange(said, true))
            say_if_possible(
                fmt::format("qcow2-maint: '{}' is suspended until nobody else uses its image\n", device_.name()));
        return so_far < patience || !shield.interrupted();
    };
    const auto start = Clock::now();
    try {
        require_unchanged(false);
        shield.breakable([this] { device_.suspend(); });
        work_on_image(work, shield);
    } catch (const std::exception &e) {
        if (const int number = resume(udev, until_signal))
            fail("{}; {}", e.what(), left_suspended(device_, files_.image.get(), number));
        if (shield.interrupted())
            fmt::print(stderr, "qcow2-maint: {}; '{}' goes on\n", e.what(), device_.name());
        throw;
    }
    int number = resume_patiently(device_, udev, until_signal);
    // The new table may have been lost in the attempt.
    if (number)
        number = resume(udev, until_signal);
    if (number)
        throw Error(left_suspended(device_, files_.image.get(), number));
    const auto end = Clock::now();
    if (shield.interrupted())
        fmt::print(stderr, "qcow2-maint: '{}' was changed before the signal came\n", device_.name());
    return {device_.name(), std::chrono::duration<double, std::milli>(end - start).count()};
}

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
    return Session(device, access, state).run(judge, work);
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
    const bool changed = fit_table(device, header, files);
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
