// SPDX-License-Identifier: GPL-2.0-only
#include "base/new_file.hpp"

#include "base/error.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

namespace liveblk {
namespace {

namespace fs = std::filesystem;

constexpr mode_t to_read_and_write = 0666;

UniqueFd open_folder(const fs::path &path)
{
    const std::string folder = path.has_parent_path() ? path.parent_path().string() : ".";
    UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd)
        fail_errno(fmt::format("create '{}' in the directory '{}'", path.string(), folder));
    return fd;
}

std::string name_of(const fs::path &path)
{
    const std::string name = path.filename();
    if (name.empty() || name == "." || name == "..")
        fail("create '{}': this is no name of a file", path.string());
    return name;
}

UniqueFd create(int folder, const std::string &name, const std::string &path)
{
    UniqueFd fd(::openat(folder, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd && errno == EEXIST)
        fail("create '{}': there is something of that name already", path);
    if (!fd)
        fail_errno(fmt::format("create '{}'", path));
    return fd;
}

} // namespace

NewFile::NewFile(const std::string &path)
    : folder_(open_folder(path)), name_(name_of(path)), fd_(create(folder_.get(), name_, path))
{
    std::error_code error;
    path_ = fs::read_symlink(fmt::format("/proc/self/fd/{}", fd_.get()), error);
    if (!error)
        return;
    ::unlinkat(folder_.get(), name_.c_str(), 0);
    fail("find out where '{}' is: {}", path, error.message());
}

NewFile::~NewFile()
{
    if (!kept_)
        remove();
}

void NewFile::remove() const noexcept
{
    if (has_its_name())
        ::unlinkat(folder_.get(), name_.c_str(), 0);
}

bool NewFile::has_its_name() const
{
    struct stat named;
    struct stat own;
    return ::fstatat(folder_.get(), name_.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 && ::fstat(fd(), &own) == 0 &&
           named.st_dev == own.st_dev && named.st_ino == own.st_ino;
}

std::string NewFile::folder() const
{
    return fs::path(path_).parent_path();
}

void NewFile::share_like(const struct stat &other) const
{
    struct stat own;
    if (::fstat(fd(), &own) < 0)
        fail_errno(fmt::format("look at '{}'", path_));
    // A file system without owners refuses to set even the one that there is.
    if ((own.st_uid != other.st_uid || own.st_gid != other.st_gid) && ::fchown(fd(), other.st_uid, other.st_gid) < 0)
        fail_errno(fmt::format("give '{}' to user {} and group {}", path_, other.st_uid, other.st_gid));
    const mode_t mode = other.st_mode & to_read_and_write;
    if ((own.st_mode & to_read_and_write) != mode && ::fchmod(fd(), mode) < 0)
        fail_errno(fmt::format("give '{}' the mode {:o}", path_, mode));
}

void NewFile::settle() const
{
    const std::string what = fmt::format("make the new file '{}' durable", path_);
    if (::fsync(fd()) < 0)
        fail_errno(what);
    if (::fsync(folder_.get()) < 0)
        fail_errno(what);
}

} // namespace liveblk
