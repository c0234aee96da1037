// SPDX-License-Identifier: GPL-2.0-only
#include "quiet.hpp"

#include "error.hpp"
#include "unique_fd.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <ctime>
#include <fstream>
#include <sstream>
#include <string>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

namespace liveblk::maint {
namespace {

// The kernel writes blanks and backslashes of a path as three octal digits.
std::string unescape(const std::string &text)
{
    std::string path;
    for (std::size_t i = 0; i < text.size(); i++) {
        if (text[i] == '\\' && i + 3 < text.size()) {
            path += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8));
            i += 3;
        } else {
            path += text[i];
        }
    }
    return path;
}

} // namespace

void stay_in_memory()
{
    // Read from a file at the first use.
    ::tzset();
    if (::mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
        fail_errno("lock this program in memory, so that it does not wait for the device that it suspends");
    if (::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
        fail_errno("keep the kernel from waiting for the device that is to be suspended");
}

void write_out_mounts(unsigned major, unsigned minor)
{
    const std::string number = fmt::format("{}:{}", major, minor);
    std::ifstream mounts("/proc/self/mountinfo");
    for (std::string line; std::getline(mounts, line);) {
        std::istringstream words(line);
        std::string id, parent, device, root, point;
        words >> id >> parent >> device >> root >> point;
        if (device != number)
            continue;
        const UniqueFd fd(::open(unescape(point).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
        struct stat st;
        if (fd && ::fstat(fd.get(), &st) == 0 && st.st_dev == makedev(major, minor))
            (void)::syncfs(fd.get());
    }
}

} // namespace liveblk::maint
