// SPDX-License-Identifier: GPL-2.0-only
#include "block_target.hpp"

#include "error.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <vector>

namespace liveblk::test {

namespace {

UniqueFd open_or_throw(const std::string &path, int flags)
{
    UniqueFd fd(::open(path.c_str(), flags | O_RDWR | O_CLOEXEC));
    if (!fd)
        throw_errno("open " + path + " for reading and writing");
    return fd;
}

// EINVAL is how a file system without direct I/O (tmpfs) says so.
UniqueFd open_direct(const std::string &path)
{
    UniqueFd fd(::open(path.c_str(), O_DIRECT | O_RDWR | O_CLOEXEC));
    if (!fd && errno != EINVAL)
        throw_errno("open " + path + " for direct I/O");
    return fd;
}

int range_ioctl(int fd, unsigned long request, Range range)
{
    std::array<std::uint64_t, 2> argument{range.offset, range.length};
    return ::ioctl(fd, request, argument.data()) ? errno : 0;
}

} // namespace

BlockTarget::BlockTarget(const std::string &path)
    : path_(path), buffered_(open_or_throw(path, 0)), direct_(open_direct(path))
{
    struct stat st {};
    if (::fstat(buffered_.get(), &st))
        throw_errno("stat " + path);
    is_device_ = S_ISBLK(st.st_mode);
    size_ = static_cast<std::uint64_t>(st.st_size);
    if (is_device_ && ::ioctl(buffered_.get(), BLKGETSIZE64, &size_))
        throw_errno("read the size of " + path);
}

int BlockTarget::discard(Range range) const
{
    if (!is_device_)
        return allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range);
    return range_ioctl(buffered_.get(), BLKDISCARD, range);
}

int BlockTarget::zero_out(Range range) const
{
    if (!is_device_)
        return allocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, range);
    return range_ioctl(buffered_.get(), BLKZEROOUT, range);
}

int BlockTarget::allocate(int mode, Range range) const
{
    const int result =
        ::fallocate(buffered_.get(), mode, static_cast<off_t>(range.offset), static_cast<off_t>(range.length));
    return result ? errno : 0;
}

int BlockTarget::flush() const
{
    return ::fsync(buffered_.get()) ? errno : 0;
}

void BlockTarget::enable_copies()
{
    if (is_device_)
        copier_.emplace();
}

copy::Outcome BlockTarget::copy(Range source, std::uint64_t destination, copy::Emulate emulate) const
{
    if (copier_)
        return copier_->copy(buffered_.get(), source.offset, buffered_.get(), destination, source.length, emulate);
    if (source.overlaps({destination, source.length}))
        return {.error = EINVAL};
    std::vector<std::byte> data(source.length);
    if (::pread(buffered_.get(), data.data(), data.size(), static_cast<off_t>(source.offset)) !=
            static_cast<ssize_t>(data.size()) ||
        ::pwrite(buffered_.get(), data.data(), data.size(), static_cast<off_t>(destination)) !=
            static_cast<ssize_t>(data.size()))
        return {.error = EIO};
    return {.done = source.length};
}

int BlockTarget::write_back(Range range) const
{
    const int result = ::sync_file_range(buffered_.get(), static_cast<off_t>(range.offset),
                                         static_cast<off_t>(range.length), SYNC_FILE_RANGE_WRITE_AND_WAIT);
    return result ? errno : 0;
}

void BlockTarget::drop_cache() const
{
    if (const int error = flush())
        throw_errno("fsync " + path_, error);
    if (is_device_ && ::ioctl(buffered_.get(), BLKFLSBUF, 0))
        throw_errno("drop the buffers of " + path_);
    if (const int error = ::posix_fadvise(buffered_.get(), 0, 0, POSIX_FADV_DONTNEED))
        throw_errno("drop the page cache of " + path_, error);
}

} // namespace liveblk::test
