// SPDX-License-Identifier: GPL-2.0-only
// Byte 100 + n is locked by whoever uses permission n, 200 + n by whoever does not let others use it. A newcomer takes
// its own bytes, shared, and then looks whether the opposite ones are taken.
#include "image_lock.hpp"

#include "error.hpp"
#include "header.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>
#include <vector>

namespace liveblk::qcow2 {
namespace {

constexpr off_t used_base = 100;
constexpr off_t unshared_base = 200;

struct Permission {
    off_t number;
    const char *name;
    bool used_by_readers;
    bool used_by_writers;
    bool unshared;
};
constexpr std::array<Permission, 3> permissions = {{
    {0, "consistent read", true, true, false},
    {1, "write", false, true, true},
    {3, "resize", false, true, true},
}};

struct flock one_byte(short type, off_t at)
{
    struct flock lock = {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = at;
    lock.l_len = 1;
    return lock;
}

void take(int fd, const std::string &path, off_t at)
{
    struct flock lock = one_byte(F_RDLCK, at);
    if (::fcntl(fd, F_OFD_SETLK, &lock) < 0)
        fail_errno(fmt::format("lock byte {} of '{}'", at, path));
}

bool taken_by_another(int fd, const std::string &path, off_t at)
{
    struct flock lock = one_byte(F_WRLCK, at);
    if (::fcntl(fd, F_OFD_GETLK, &lock) < 0)
        fail_errno(fmt::format("look for locks on '{}'", path));
    return lock.l_type != F_UNLCK;
}

std::string command_of(const std::filesystem::path &process)
{
    std::ifstream file(process / "comm");
    std::string name;
    std::getline(file, name);
    return printable(name);
}

bool holds_lock(const std::filesystem::path &process, const std::string &inode)
{
    std::error_code ignored;
    for (const auto &entry : std::filesystem::directory_iterator(process / "fdinfo", ignored)) {
        std::ifstream file(entry.path());
        for (std::string line; std::getline(file, line);)
            if (line.starts_with("lock:") && line.find(inode) != std::string::npos)
                return true;
    }
    return false;
}

std::string holders(int fd)
{
    struct stat st;
    if (::fstat(fd, &st) < 0)
        return {};
    const std::string inode = fmt::format(" {:02x}:{:02x}:{} ", major(st.st_dev), minor(st.st_dev), st.st_ino);
    std::string names;
    std::error_code ignored;
    for (const auto &entry : std::filesystem::directory_iterator("/proc", ignored)) {
        const std::string name = entry.path().filename();
        int pid = 0;
        const auto parsed = std::from_chars(name.data(), name.data() + name.size(), pid);
        if (parsed.ec != std::errc() || pid == ::getpid() || !holds_lock(entry.path(), inode))
            continue;
        names += fmt::format("{}{} (process {})", names.empty() ? "" : ", ", command_of(entry.path()), pid);
    }
    return names;
}

[[noreturn]] void refuse(int fd, const std::string &path, const char *permission)
{
    throw ImageInUse(path, fmt::format("lock '{}' for \"{}\"", path, permission), lock_holders(fd));
}

} // namespace

// Processes come and go while they are looked at, and what is not found out is no reason to say nothing.
std::string lock_holders(int fd)
{
    try {
        return holders(fd);
    } catch (const std::exception &) {
        return {};
    }
}

bool image_is_locked(int fd, const std::string &path)
{
    struct flock lock = one_byte(F_WRLCK, used_base);
    lock.l_len = 2 * (unshared_base - used_base);
    if (::fcntl(fd, F_OFD_GETLK, &lock) < 0)
        fail_errno(fmt::format("look for locks on '{}'", path));
    return lock.l_type != F_UNLCK;
}

void lock_image(int fd, const std::string &path, bool writable)
{
    for (const Permission &p : permissions) {
        if (writable ? p.used_by_writers : p.used_by_readers)
            take(fd, path, used_base + p.number);
        if (p.unshared)
            take(fd, path, unshared_base + p.number);
    }
    for (const Permission &p : permissions) {
        if ((writable ? p.used_by_writers : p.used_by_readers) && taken_by_another(fd, path, unshared_base + p.number))
            refuse(fd, path, p.name);
        if (p.unshared && taken_by_another(fd, path, used_base + p.number))
            refuse(fd, path, p.name);
    }
}

} // namespace liveblk::qcow2
