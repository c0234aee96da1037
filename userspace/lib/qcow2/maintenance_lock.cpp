// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/maintenance_lock.hpp"

#include "base/error.hpp"
#include "qcow2/image_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <thread>

namespace liveblk::qcow2 {
namespace {

constexpr const char *folder = "/run/liveblk";

std::string file_for(int image_fd, const std::string &path)
{
    struct stat st;
    if (::fstat(image_fd, &st) < 0)
        fail_errno(fmt::format("look at '{}'", path));
    if (S_ISBLK(st.st_mode))
        return fmt::format("{}/image-block-{}-{}", folder, major(st.st_rdev), minor(st.st_rdev));
    return fmt::format("{}/image-{}-{}-{}", folder, major(st.st_dev), minor(st.st_dev), st.st_ino);
}

// The last holder has removed the file; a lock on it means nothing.
bool is_gone(int fd)
{
    struct stat st;
    return ::fstat(fd, &st) < 0 || st.st_nlink == 0;
}

} // namespace

MaintenanceLock::MaintenanceLock(int image_fd, const std::string &path)
{
    if (::geteuid() != 0 || (::mkdir(folder, 0700) < 0 && errno != EEXIST))
        return;
    file_ = file_for(image_fd, path);
    do {
        fd_ = UniqueFd(::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (!fd_)
            fail_errno(fmt::format("open '{}', the lock for the maintenance of '{}'", file_, path));
        if (::flock(fd_.get(), LOCK_EX | LOCK_NB) < 0) {
            if (errno != EWOULDBLOCK)
                fail_errno(fmt::format("lock '{}'", file_));
            const std::string holders = lock_holders(fd_.get());
            fd_ = UniqueFd();
            throw ImageInUse(path, fmt::format("maintain '{}'", path),
                             holders.empty() ? "another call that has just ended" : holders);
        }
    } while (is_gone(fd_.get()));
}

MaintenanceLock MaintenanceLock::wait(int image_fd, const std::string &path, std::chrono::milliseconds most)
{
    using Clock = std::chrono::steady_clock;
    for (const auto limit = Clock::now() + most;;) {
        try {
            return MaintenanceLock(image_fd, path);
        } catch (const ImageInUse &) {
            if (Clock::now() > limit)
                throw;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
}

MaintenanceLock::~MaintenanceLock()
{
    if (fd_)
        ::unlink(file_.c_str());
}

} // namespace liveblk::qcow2
