// SPDX-License-Identifier: GPL-2.0-only
#include "watchdog.hpp"

#include "support.hpp"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace hostile {

namespace {

struct Progress {
    std::atomic<std::uint64_t> step;
    char name[256];
};

Progress *progress;

void show_blocked_tasks()
{
    int fd = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    Fd closer(fd);
    if (write(fd, "w", 1) != 1)
        std::perror("write /proc/sysrq-trigger");
}

int watch(pid_t child, unsigned seconds)
{
    constexpr unsigned ticks_per_second = 10;
    std::uint64_t last = progress->step;
    for (unsigned idle = 0; idle < seconds * ticks_per_second; idle++) {
        int status = 0;
        pid_t pid = waitpid(child, &status, WNOHANG);
        if (pid < 0 && errno != EINTR)
            throw_errno("wait for", "the worker");
        if (pid == child && WIFEXITED(status))
            return WEXITSTATUS(status);
        if (pid == child) {
            std::fprintf(stderr, "the worker died of signal %d in: %s\n", WTERMSIG(status), progress->name);
            return 1;
        }
        if (progress->step != last) {
            last = progress->step;
            idle = 0;
        }
        usleep(1000000 / ticks_per_second);
    }
    std::fprintf(stderr, "HUNG for %u s in: %s\n", seconds, progress->name);
    show_blocked_tasks();
    kill(child, SIGKILL);
    return 1;
}

} // namespace

int run_watched(unsigned seconds, const std::function<int()> &work)
{
    void *shared = mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        throw_errno("map", "memory for the watchdog");
    progress = new (shared) Progress{};
    std::fflush(nullptr);
    pid_t child = fork();
    if (child < 0)
        throw_errno("start", "the worker");
    if (child > 0)
        return watch(child, seconds);
    int status = 1;
    try {
        status = work();
    } catch (const std::exception &e) {
        std::fprintf(stderr, "in %s: %s\n", progress->name, e.what());
    }
    std::fflush(nullptr);
    _exit(status);
}

void begin_step(const std::string &name)
{
    if (!progress)
        return;
    std::snprintf(progress->name, sizeof(progress->name), "%s", name.c_str());
    progress->step++;
}

} // namespace hostile
