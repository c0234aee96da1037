// SPDX-License-Identifier: GPL-2.0-only
// measure COMMAND...: runs it and prints one line of JSON: its exit status, the seconds that it took by the clock and
// of the processors, and the most memory that it had, in KiB.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

namespace {

double seconds(const timeval &t)
{
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
}

} // namespace

int main(int argc, char **argv)
{
    if (argc < 2) {
        std::fprintf(stderr, "usage: measure COMMAND...\n");
        return EXIT_FAILURE;
    }
    const auto start = std::chrono::steady_clock::now();
    const pid_t child = ::fork();
    if (child == 0) {
        // The line is the only thing on standard output.
        ::dup2(STDERR_FILENO, STDOUT_FILENO);
        ::execvp(argv[1], argv + 1);
        std::perror(argv[1]);
        ::_exit(127);
    }
    int status = 0;
    rusage usage = {};
    if (child < 0 || ::wait4(child, &status, 0, &usage) != child) {
        std::perror("measure");
        return EXIT_FAILURE;
    }
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
    std::printf("{\"status\": %d, \"wall\": %.4f, \"user\": %.4f, \"system\": %.4f, \"maxrss_kib\": %ld}\n",
                WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), wall.count(), seconds(usage.ru_utime),
                seconds(usage.ru_stime), usage.ru_maxrss);
    return EXIT_SUCCESS;
}
