// SPDX-License-Identifier: GPL-2.0-only
#include "module.hpp"

#include "error.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <array>

extern char **environ;

namespace liveblk::copy {

void load_module(const std::string &name)
{
    std::string program = "modprobe", option = "-q", module = name;
    std::array<char *, 4> arguments = {program.data(), option.data(), module.data(), nullptr};
    pid_t child = 0;
    if (::posix_spawnp(&child, "modprobe", nullptr, nullptr, arguments.data(), environ) == 0)
        ::waitpid(child, nullptr, 0);
}

UniqueFd open_control(const std::string &path, const std::string &module)
{
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd && (errno == ENOENT || errno == ENXIO || errno == ENODEV)) {
        load_module(module);
        fd = UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    }
    if (!fd)
        fail_errno(fmt::format("open '{}'", path));
    return fd;
}

} // namespace liveblk::copy
