// SPDX-License-Identifier: GPL-2.0-only
#include "base/kernel_module.hpp"

#include "base/error.hpp"
#include "base/privilege.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string_view>

extern char **environ;

namespace liveblk {
namespace {

// Not looked for in PATH, in which there is no /sbin for those who have become root by su.
constexpr const char *modprobe = "/sbin/modprobe";

struct Ended {
    int status = -1; // as waitpid() gives it
    std::string said;
};

// Runs modprobe; what it says to standard error is kept.
Ended run_modprobe(std::string module)
{
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0)
        fail_errno("make a pipe");
    const UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, writer.get(), STDERR_FILENO);
    std::string program = modprobe;
    std::array<char *, 3> arguments = {program.data(), module.data(), nullptr};
    pid_t child = 0;
    const int error = ::posix_spawn(&child, modprobe, &actions, nullptr, arguments.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    writer = UniqueFd();
    if (error)
        fail_errno(fmt::format("run {}", modprobe), error);
    Ended ended;
    std::array<char, 512> part{};
    ssize_t got = 0;
    while ((got = ::read(reader.get(), part.data(), part.size())) > 0 || (got < 0 && errno == EINTR))
        if (got > 0)
            ended.said.append(part.data(), static_cast<std::size_t>(got));
    while (::waitpid(child, &ended.status, 0) < 0 && errno == EINTR) {
    }
    return ended;
}

// The first line, without "modprobe: ERROR: ".
std::string reason_of(const std::string &said)
{
    std::string_view line(said);
    line = line.substr(0, line.find('\n'));
    for (const std::string_view prefix : {"modprobe: ", "ERROR: ", "FATAL: "})
        if (line.starts_with(prefix))
            line.remove_prefix(prefix.size());
    return line.empty() ? "modprobe does not say why" : std::string(line);
}

std::string hint_for(const std::string &reason)
{
    const auto says = [&](const char *text) { return reason.find(text) != std::string::npos; };
    if (says("Key was rejected") || says("equired key not available"))
        return "; the kernel takes only modules that are signed with a key that it knows: see Secure Boot in README.md";
    if (says("Operation not permitted"))
        return "; the kernel is locked down, or takes no more modules: see Secure Boot in README.md";
    if (says("not found"))
        return "; it is not installed for this kernel";
    return "; the kernel log may say more";
}

} // namespace

std::string load_module(const std::string &name)
{
    if (!may_administer())
        return fmt::format("the module {} is not loaded, and {}", name, root_only);
    try {
        const Ended ended = run_modprobe(name);
        if (ended.status == 0)
            return {};
        const std::string reason = reason_of(ended.said);
        return fmt::format("the module {} cannot be loaded: {}{}", name, reason, hint_for(reason));
    } catch (const Error &e) {
        return fmt::format("the module {} cannot be loaded: {}", name, e.what());
    }
}

UniqueFd open_module_device(const std::string &path, const std::string &module)
{
    const auto open = [&] { return UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC)); };
    UniqueFd fd = open();
    if (fd)
        return fd;
    std::string why;
    if (errno == ENOENT || errno == ENXIO || errno == ENODEV) {
        why = load_module(module);
        fd = open();
    }
    if (fd)
        return fd;
    if (!why.empty())
        fail("open '{}': {}", path, why);
    fail_errno(fmt::format("open '{}'", path));
}

} // namespace liveblk
