// SPDX-License-Identifier: GPL-2.0-only
#include "live/suspension.hpp"

#include "base/error.hpp"
#include "dm/block_stack.hpp"
#include "live/guardian.hpp"
#include "live/quiet.hpp"
#include "qcow2/image_lock.hpp"
#include "qcow2/resize.hpp"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <system_error>
#include <utility>
#include <vector>

namespace liveblk::live {
namespace {

using namespace std::chrono_literals;

// For whom a device waits that can go on without them.
constexpr auto brief = 1s;

// For what lasts, on a terminal that takes it: nothing else may be waited for now.
void say_if_possible(const std::string &text)
{
    pollfd terminal = {.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
    if (::isatty(STDERR_FILENO) && ::poll(&terminal, 1, 0) == 1 && (terminal.revents & POLLOUT))
        (void)!::write(STDERR_FILENO, text.data(), text.size());
}

} // namespace

Suspension::Suspension(const dm::Device &device, qcow2::Access access, ImageState state)
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
    for (const std::string &path : table_.paths()) {
        try {
            require_elsewhere(path);
        } catch (const stack::Hidden &) {
            // Whoever attached it had another view; tables by hand alone can lead back.
        }
    }
}

// Those that the module has open, which its locks on them show.
void Suspension::require_its_files() const
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

void Suspension::require_elsewhere(const std::string &path) const
{
    stack::BlockStack stack;
    if (const auto way = stack.way_of_file(path, stack::make_number(device_.major(), device_.minor())))
        fail("suspend '{}': its image '{}' is on the device itself: {}", device_.name(), path, stack::describe(*way));
}

// From the look at it until the suspend, and on from there: others may use device-mapper too.
void Suspension::require_unchanged(bool suspended) const
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

void Suspension::look_first(const Work &judge) const
{
    if (!judge)
        return;
    qcow2::Image image = read_beside(device_);
    Progress progress;
    judge(image, progress);
}

void Suspension::follow_header(qcow2::Image &image, Progress &progress)
{
    const std::uint64_t old_size = table_.sectors * qcow2::sector_size;
    image.reload();
    const std::uint64_t size = image.header().size;
    try {
        fit_table(device_, table_, image.header(), files_);
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
int Suspension::resume(dm::UdevWork &udev, const Wait &wait) const noexcept
{
    if (!may_be_suspended(device_))
        return 0;
    settle(files_.image.get());
    try {
        const qcow2::ImageFile file(table_.image, qcow2::Access::read_only_shared,
                                    qcow2::reopen_image_file(files_.image.get(), false));
        fit_table(device_, table_, qcow2::read_header(file), files_);
    } catch (const std::exception &) {
        // What cannot be read or loaded now is said by the resume.
    }
    return resume_patiently(device_, udev, wait);
}

qcow2::Image Suspension::open_image()
{
    try {
        return qcow2::Image(qcow2::ImageFile(table_.image, access_, std::move(image_fd_)));
    } catch (const qcow2::ImageInUse &e) {
        if (e.holder_is_known())
            throw;
        fail("work on '{}': the device could not write all of it and keeps it; the kernel log says why", table_.image);
    }
}

void Suspension::work_on_image(const Work &work, const SignalShield &shield)
{
    qcow2::Image image = open_image();
    Progress breakable([&shield] { shield.check(); });
    work(image, breakable);
    // What the work has done stays done.
    Progress steady([] {});
    if (access_ == qcow2::Access::read_write)
        follow_header(image, steady);
}

Pause Suspension::edit(const Work &judge, const Work &work)
{
    look_first(judge);
    return run([&](const SignalShield &shield, dm::UdevWork &) { work_on_image(work, shield); }, [] {});
}

Pause Suspension::put_on_top(const std::string &path, int fd, const std::function<void(const qcow2::Image &)> &look,
                             const std::function<void()> &give_up)
{
    const dm::Qcow2Table table = table_.under(path);
    std::vector<int> backing = {files_.image.get()};
    for (const UniqueFd &below : files_.backing)
        backing.push_back(below.get());
    const Turn turn = [&](const SignalShield &shield, dm::UdevWork &udev) {
        // With a reader's lock, as the device is to have it: nobody writes to the image in between.
        const qcow2::Image image = open_image();
        look(image);
        shield.check();
        device_.load(table.with_fds(fd, backing, -1, table.sectors), false);
        if (const int number = resume_patiently(device_, udev, [](Clock::duration so_far) { return so_far < brief; }))
            refuse_top(path, fd, number);
    };
    try {
        return run(turn, give_up);
    } catch (...) {
        give_up();
        throw;
    }
}

void Suspension::refuse_top(const std::string &path, int fd, int number) const
{
    const std::string holders = number == EBUSY ? qcow2::lock_holders(fd) : std::string();
    fail("resume '{}' with '{}' on top: {}{}{}; the kernel log says more", device_.name(), path,
         std::generic_category().message(number), holders.empty() ? "" : ", it is in use by ", holders);
}

Pause Suspension::run(const Turn &turn, const std::function<void()> &after_rescue)
{
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
        [&] {
            dm::UdevWork its_udev;
            (void)resume(its_udev, [](Clock::duration) { return true; });
            after_rescue();
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
        shield.check();
        require_unchanged(true);
        turn(shield, udev);
    } catch (const std::exception &e) {
        if (const int number = resume(udev, until_signal))
            fail("{}; {}", e.what(), left_suspended(device_, files_.image.get(), number));
        if (shield.interrupted())
            fmt::print(stderr, "qcow2-maint: {}; '{}' goes on\n", e.what(), device_.name());
        throw;
    }
    int number = may_be_suspended(device_) ? resume_patiently(device_, udev, until_signal) : 0;
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

} // namespace liveblk::live
