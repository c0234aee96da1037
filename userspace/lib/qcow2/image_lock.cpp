// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/image_lock.hpp"

#include "base/error.hpp"
#include "qcow2/header.hpp"

#include <format/qemu-locks.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <vector>

namespace liveblk::qcow2 {
namespace {

constexpr std::array<const char *, QEMU_PERM_NR> names = {"consistent read", "write", "write unchanged", "resize"};

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
    struct flock lock = one_byte(F_WRLCK, QEMU_PERM_BASE);
    lock.l_len = QEMU_LOCK_BYTES;
    if (::fcntl(fd, F_OFD_GETLK, &lock) < 0)
        fail_errno(fmt::format("look for locks on '{}'", path));
    return lock.l_type != F_UNLCK;
}

void lock_image(int fd, const std::string &path, bool writable)
{
    const unsigned uses = writable ? QEMU_USES_RW : QEMU_USES_RO;
    for (int perm = 0; perm < QEMU_PERM_NR; perm++) {
        if (uses & (1U << perm))
            take(fd, path, QEMU_PERM_BASE + perm);
        if (QEMU_UNSHARED & (1U << perm))
            take(fd, path, QEMU_UNSHARED_BASE + perm);
    }
    for (int perm = 0; perm < QEMU_PERM_NR; perm++) {
        if ((uses & (1U << perm)) && taken_by_another(fd, path, QEMU_UNSHARED_BASE + perm))
            refuse(fd, path, names[static_cast<std::size_t>(perm)]);
        if ((QEMU_UNSHARED & (1U << perm)) && taken_by_another(fd, path, QEMU_PERM_BASE + perm))
            refuse(fd, path, names[static_cast<std::size_t>(perm)]);
    }
}

} // namespace liveblk::qcow2
