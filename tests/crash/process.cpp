// SPDX-License-Identifier: GPL-2.0-only
#include "process.hpp"

#include "base/unique_fd.hpp"
#include "error.hpp"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <stdexcept>

namespace liveblk::crash {
namespace {

class SpawnActions {
public:
    SpawnActions() { posix_spawn_file_actions_init(&actions_); }
    SpawnActions(const SpawnActions &) = delete;
    SpawnActions &operator=(const SpawnActions &) = delete;
    ~SpawnActions() { posix_spawn_file_actions_destroy(&actions_); }
    posix_spawn_file_actions_t *get() { return &actions_; }

private:
    posix_spawn_file_actions_t actions_;
};

std::string read_all(int fd)
{
    std::string text;
    std::array<char, 4096> chunk;
    while (true) {
        const ssize_t n = ::read(fd, chunk.data(), chunk.size());
        if (n < 0 && errno != EINTR)
            test::throw_errno("read the output of a program");
        if (n == 0)
            return text;
        if (n > 0)
            text.append(chunk.data(), static_cast<std::size_t>(n));
    }
}

int wait_for(pid_t pid)
{
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            test::throw_errno("wait for a program");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

} // namespace

ProcessResult run_process(const std::vector<std::string> &command)
{
    std::array<int, 2> ends;
    if (::pipe2(ends.data(), O_CLOEXEC))
        test::throw_errno("make a pipe");
    const UniqueFd from(ends[0]);
    UniqueFd to(ends[1]);
    SpawnActions actions;
    posix_spawn_file_actions_adddup2(actions.get(), to.get(), STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(actions.get(), to.get(), STDERR_FILENO);
    std::vector<char *> arguments;
    for (const std::string &word : command)
        arguments.push_back(const_cast<char *>(word.c_str()));
    arguments.push_back(nullptr);
    pid_t pid = 0;
    if (const int error = ::posix_spawnp(&pid, arguments[0], actions.get(), nullptr, arguments.data(), environ))
        test::throw_errno("run " + command[0], error);
    to = UniqueFd();
    ProcessResult result;
    result.output = read_all(from.get());
    result.status = wait_for(pid);
    return result;
}

void run_or_throw(const std::vector<std::string> &command)
{
    const ProcessResult result = run_process(command);
    if (result.status)
        throw std::runtime_error(
            fmt::format("{} ended with {}: {}", fmt::join(command, " "), result.status, result.output));
}

} // namespace liveblk::crash
