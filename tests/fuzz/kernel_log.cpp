// SPDX-License-Identifier: GPL-2.0-only
#include "kernel_log.hpp"

#include "expression.hpp"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

namespace hostile {

KernelLog::KernelLog() : fd_(open_or_throw("/dev/kmsg", O_RDONLY | O_NONBLOCK))
{
    skip();
}

void KernelLog::skip()
{
    if (lseek(fd_.get(), 0, SEEK_END) < 0)
        throw_errno("seek in", "/dev/kmsg");
}

std::vector<std::string> KernelLog::take()
{
    std::vector<std::string> lines;
    std::array<char, 8192> record{};
    for (;;) {
        ssize_t n = read(fd_.get(), record.data(), record.size());
        if (n < 0 && errno == EPIPE) // records were lost: the log was flooded
            lines.emplace_back("(lost records)");
        else if (n < 0 && errno == EAGAIN)
            return lines;
        else if (n < 0 && errno != EINTR)
            throw_errno("read", "/dev/kmsg");
        if (n <= 0)
            continue;
        std::string text(record.data(), static_cast<std::size_t>(n));
        std::size_t begin = text.find(';');
        std::size_t end = text.find('\n');
        if (begin != std::string::npos)
            lines.push_back(text.substr(begin + 1, end - begin - 1));
    }
}

bool is_complaint(const std::string &line)
{
    static const Expression bad("BUG: |BUG at|WARNING: |Oops|KASAN|UBSAN|general protection|"
                                "possible (circular|recursive)|inconsistent lock|suspicious RCU|"
                                "blocked for more than|soft lockup|rcu.*stall|Kernel panic|"
                                "unable to handle|refcount_t: |\\(lost records\\)");
    // Text from an image is quoted in log lines of the target; those are no complaints.
    return line.find("qcow2") == std::string::npos && bad.found_in(line);
}

} // namespace hostile
