// SPDX-License-Identifier: GPL-2.0-only
// Preloaded into a program: ends it at the n-th call that changes a file or a device-mapper device, as a kill would,
// before that call is made. A process that the program forks is left alone.
//   LIVEBLK_STOP_AT    n, from 1 on; without it calls are only counted
//   LIVEBLK_STOP_HALF  with it a write that the program is stopped at is made in its first half
//   LIVEBLK_STOP_GROUP with it all of the program's process group is killed, not only the program
//   LIVEBLK_STOP_FAIL  with it the program goes on, and that call and all later ones fail for want of space
//   LIVEBLK_STOP_ONCE  with it that call fails, for want of space or memory, and the program goes on
//   LIVEBLK_STOP_WAIT  FILE: the program makes FILE.here before that call, waits until there is a FILE.go, and goes on
//   LIVEBLK_STOP_SKIP  n: that write is lost, and the program ends at the next barrier, as if power failed before it
//   LIVEBLK_STOP_READDIR  the n-th look into a directory and all later ones fail
//   LIVEBLK_SLOW_READ  microseconds that each read of a file takes longer
//   LIVEBLK_STOP_LOG   a file that gets a line for each call: its name, offset and length
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

constexpr int stopped_status = 99;

const pid_t program = ::getpid();

enum class Verdict { go_on, fail, skip };

long number(const char *name)
{
    const char *text = std::getenv(name);
    return text ? std::atol(text) : 0;
}

template <typename Function>
Function *next(const char *name)
{
    return reinterpret_cast<Function *>(::dlsym(RTLD_NEXT, name));
}

using Pwrite = ssize_t(int, const void *, size_t, off_t);

void log_call(const char *what, off_t offset, size_t length)
{
    static const char *path = std::getenv("LIVEBLK_STOP_LOG");
    if (!path)
        return;
    if (std::FILE *file = std::fopen(path, "ae")) {
        std::fprintf(file, "%s %lld %zu\n", what, static_cast<long long>(offset), length);
        std::fclose(file);
    }
}

void wait_for_go(const std::string &file)
{
    const int here = ::creat((file + ".here").c_str(), 0600);
    ::close(here);
    while (::access((file + ".go").c_str(), F_OK) < 0)
        ::usleep(10'000);
}

// What a device-mapper call changes; null if it only asks.
const char *name_of(unsigned long request, const void *argument)
{
    if (_IOC_TYPE(request) != DM_IOCTL)
        return nullptr;
    switch (_IOC_NR(request)) {
    case DM_DEV_CREATE_CMD:
        return "dm-create";
    case DM_DEV_REMOVE_CMD:
        return "dm-remove";
    case DM_DEV_SUSPEND_CMD:
        return static_cast<const dm_ioctl *>(argument)->flags & DM_SUSPEND_FLAG ? "dm-suspend" : "dm-resume";
    case DM_TABLE_LOAD_CMD:
        return "dm-load";
    case DM_TABLE_CLEAR_CMD:
        return "dm-clear";
    case DM_TARGET_MSG_CMD:
        return "dm-message";
    default:
        return nullptr;
    }
}

// One count for calls of all kinds.
long next_call()
{
    static long calls = 0;
    return ++calls;
}

// Counts a call; does not return from the one to stop at.
template <typename Half>
Verdict count(const char *what, off_t offset, size_t length, Half half)
{
    if (::getpid() != program)
        return Verdict::go_on;
    log_call(what, offset, length);
    const long call = next_call();
    const long skipped = number("LIVEBLK_STOP_SKIP");
    const long stop_at = number("LIVEBLK_STOP_AT");
    if (skipped && call == skipped)
        return Verdict::skip;
    if (skipped && call > skipped && std::strcmp(what, "fdatasync") == 0)
        ::_exit(stopped_status);
    if (!stop_at || call < stop_at)
        return Verdict::go_on;
    if (std::getenv("LIVEBLK_STOP_ONCE"))
        return call == stop_at ? Verdict::fail : Verdict::go_on;
    if (const char *file = std::getenv("LIVEBLK_STOP_WAIT")) {
        if (call == stop_at)
            wait_for_go(file);
        return Verdict::go_on;
    }
    if (std::getenv("LIVEBLK_STOP_FAIL"))
        return Verdict::fail;
    if (std::getenv("LIVEBLK_STOP_HALF"))
        half();
    if (std::getenv("LIVEBLK_STOP_GROUP"))
        ::kill(0, SIGKILL);
    ::_exit(stopped_status);
}

ssize_t counted_pwrite(const char *name, int fd, const void *bytes, size_t length, off_t offset)
{
    auto *const real = next<Pwrite>(name);
    // A sector is written whole or not at all.
    const size_t first = length / 2 / 512 * 512;
    const Verdict verdict = count("pwrite", offset, length, [&] { (void)!real(fd, bytes, first, offset); });
    if (verdict == Verdict::skip)
        return static_cast<ssize_t>(length);
    if (verdict == Verdict::fail) {
        errno = ENOSPC;
        return -1;
    }
    return real(fd, bytes, length, offset);
}

template <typename Call>
int counted(const char *what, off_t offset, size_t length, Call call)
{
    const Verdict verdict = count(what, offset, length, [] {});
    // Cutting a file needs no space.
    if (verdict != Verdict::fail || std::strcmp(what, "ftruncate") == 0)
        return call();
    errno = ENOSPC;
    return -1;
}

ssize_t slow_pread(const char *name, int fd, void *bytes, size_t length, off_t offset)
{
    static const long delay = number("LIVEBLK_SLOW_READ");
    if (delay)
        ::usleep(static_cast<useconds_t>(delay));
    return next<ssize_t(int, void *, size_t, off_t)>(name)(fd, bytes, length, offset);
}

template <typename Entry>
Entry *counted_readdir(const char *name, DIR *directory)
{
    static long calls = 0;
    const long stop_at = number("LIVEBLK_STOP_READDIR");
    if (!stop_at || ++calls < stop_at)
        return next<Entry *(DIR *)>(name)(directory);
    // As when a process ends while it is looked at.
    errno = ESRCH;
    return nullptr;
}

} // namespace

extern "C" {

ssize_t pread(int fd, void *bytes, size_t length, off_t offset)
{
    return slow_pread("pread", fd, bytes, length, offset);
}

ssize_t pread64(int fd, void *bytes, size_t length, off_t offset)
{
    return slow_pread("pread64", fd, bytes, length, offset);
}

struct dirent *readdir(DIR *directory)
{
    return counted_readdir<struct dirent>("readdir", directory);
}

struct dirent64 *readdir64(DIR *directory)
{
    return counted_readdir<struct dirent64>("readdir64", directory);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset)
{
    return counted_pwrite("pwrite", fd, bytes, length, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset)
{
    return counted_pwrite("pwrite64", fd, bytes, length, offset);
}

int fdatasync(int fd)
{
    return counted("fdatasync", 0, 0, [&] { return next<int(int)>("fdatasync")(fd); });
}

int ftruncate(int fd, off_t size) noexcept
{
    return counted("ftruncate", size, 0, [&] { return next<int(int, off_t)>("ftruncate")(fd, size); });
}

int ftruncate64(int fd, off_t size) noexcept
{
    return counted("ftruncate", size, 0, [&] { return next<int(int, off_t)>("ftruncate64")(fd, size); });
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    return counted("fallocate", offset, static_cast<size_t>(length),
                   [&] { return next<int(int, int, off_t, off_t)>("fallocate")(fd, mode, offset, length); });
}

int fallocate64(int fd, int mode, off_t offset, off_t length)
{
    return counted("fallocate", offset, static_cast<size_t>(length),
                   [&] { return next<int(int, int, off_t, off_t)>("fallocate64")(fd, mode, offset, length); });
}

int ioctl(int fd, unsigned long request, ...) noexcept
{
    std::va_list arguments;
    va_start(arguments, request);
    void *const argument = va_arg(arguments, void *);
    va_end(arguments);
    const char *const name = name_of(request, argument);
    // Without space a device can be resumed all the same.
    if (name && count(name, 0, 0, [] {}) == Verdict::fail && std::getenv("LIVEBLK_STOP_ONCE")) {
        errno = ENOMEM;
        return -1;
    }
    return next<int(int, unsigned long, ...)>("ioctl")(fd, request, argument);
}

} // extern "C"
