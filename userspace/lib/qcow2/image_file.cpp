// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/image_file.hpp"

#include "base/error.hpp"
#include "qcow2/image_lock.hpp"
#include "qcow2/xfs.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace liveblk::qcow2 {
namespace {

struct stat status_of(int fd, const std::string &path)
{
    struct stat st;
    if (::fstat(fd, &st) < 0)
        fail_errno(fmt::format("get the size of '{}'", path));
    return st;
}

} // namespace

UniqueFd open_image_file(const std::string &path, bool writable)
{
    // An image may name any file as its backing file: opening a watchdog, a tape or a pipe does something already.
    const std::string what = fmt::format("open '{}' for {}", path, writable ? "writing" : "reading");
    const UniqueFd place(::open(path.c_str(), O_PATH | O_CLOEXEC));
    if (!place)
        fail_errno(what);
    const struct stat st = status_of(place.get(), path);
    if (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode))
        fail("open '{}': neither a regular file nor a block device", path);
    UniqueFd fd(::open(fmt::format("/proc/self/fd/{}", place.get()).c_str(),
                       (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK));
    if (!fd)
        fail_errno(what);
    return fd;
}

UniqueFd reopen_image_file(int fd, bool writable)
{
    return open_image_file(fmt::format("/proc/self/fd/{}", fd), writable);
}

bool is_same_file(const struct stat &a, const struct stat &b)
{
    if (S_ISBLK(a.st_mode) && S_ISBLK(b.st_mode))
        return a.st_rdev == b.st_rdev;
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

bool is_same_file(int fd, int other)
{
    struct stat a;
    struct stat b;
    if (::fstat(fd, &a) < 0 || ::fstat(other, &b) < 0)
        fail_errno("compare two open files");
    return is_same_file(a, b);
}

ImageFile::ImageFile(std::string path, Access access)
    : ImageFile(path, access, open_image_file(path, access == Access::read_write))
{
}

ImageFile::ImageFile(std::string path, Access access, UniqueFd fd)
    : path_(std::move(path)), access_(access), fd_(std::move(fd))
{
    const struct stat st = status_of(fd_.get(), path_);
    block_device_ = S_ISBLK(st.st_mode);
    if (!block_device_ && !S_ISREG(st.st_mode))
        fail("open '{}': neither a regular file nor a block device", path_);
    if (access_ != Access::read_only_shared)
        lock_image(fd_.get(), path_, writable());
    // Only now: whoever had the lock before may have changed it.
    if (block_device_) {
        if (::ioctl(fd_.get(), BLKGETSIZE64, &size_) < 0)
            fail_errno(fmt::format("get the size of '{}'", path_));
    } else {
        size_ = static_cast<std::uint64_t>(status_of(fd_.get(), path_).st_size);
    }
}

std::uint64_t ImageFile::host_bytes() const
{
    return block_device_ ? size_ : static_cast<std::uint64_t>(status_of(fd_.get(), path_).st_blocks) * 512;
}

void ImageFile::read(std::span<std::byte> bytes, std::uint64_t offset) const
{
    while (!bytes.empty()) {
        const ssize_t n = ::pread(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            fail_errno(fmt::format("read {} bytes at offset {:#x} of '{}'", bytes.size(), offset, path_));
        if (n == 0) {
            std::memset(bytes.data(), 0, bytes.size());
            return;
        }
        bytes = bytes.subspan(static_cast<std::size_t>(n));
        offset += static_cast<std::uint64_t>(n);
    }
}

std::uint64_t ImageFile::next_data(std::uint64_t offset, std::uint64_t end) const
{
    if (block_device_)
        return offset;
    const off_t data = ::lseek(fd_.get(), static_cast<off_t>(offset), SEEK_DATA);
    if (data < 0 && errno != ENXIO)
        return offset;
    const std::uint64_t found = data < 0 ? end : std::min(static_cast<std::uint64_t>(data), end);
    return found > offset && is_on_xfs(fd_.get()) ? xfs_next_written(fd_.get(), offset, found) : found;
}

std::uint64_t ImageFile::next_hole(std::uint64_t offset, std::uint64_t end) const
{
    if (block_device_)
        return end;
    const off_t hole = ::lseek(fd_.get(), static_cast<off_t>(offset), SEEK_HOLE);
    return hole < 0 ? end : std::min(static_cast<std::uint64_t>(hole), end);
}

void ImageFile::prefetch(std::uint64_t offset, std::uint64_t length) const
{
    // Advice only: an error would show at the read.
    ::posix_fadvise(fd_.get(), static_cast<off_t>(offset), static_cast<off_t>(length), POSIX_FADV_WILLNEED);
}

void ImageFile::write(std::span<const std::byte> bytes, std::uint64_t offset)
{
    while (!bytes.empty()) {
        const ssize_t n = ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            fail_errno(fmt::format("write {} bytes at offset {:#x} of '{}'", bytes.size(), offset, path_));
        bytes = bytes.subspan(static_cast<std::size_t>(n));
        offset += static_cast<std::uint64_t>(n);
        if (!block_device_)
            size_ = std::max(size_, offset);
    }
}

void ImageFile::barrier()
{
    if (::fdatasync(fd_.get()) < 0)
        fail_errno(fmt::format("make what was written to '{}' durable", path_));
}

void ImageFile::truncate(std::uint64_t size)
{
    if (block_device_)
        return;
    if (::ftruncate(fd_.get(), static_cast<off_t>(size)) < 0)
        fail_errno(fmt::format("cut '{}' to {} bytes", path_, size));
    size_ = size;
}

void ImageFile::punch(std::uint64_t offset, std::uint64_t length)
{
    // A host that cannot do it keeps the space; the image is right all the same.
    (void)::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                      static_cast<off_t>(length));
}

} // namespace liveblk::qcow2
