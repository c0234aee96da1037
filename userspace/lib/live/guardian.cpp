// SPDX-License-Identifier: GPL-2.0-only
#include "live/guardian.hpp"

#include "base/error.hpp"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace liveblk::live {
namespace {

constexpr char ready = 'r';
constexpr char done = 'd';

// Whether the other end has sent this; false as well when it has ended.
bool receive(int fd, char expected)
{
    char got = 0;
    ssize_t n;
    do {
        n = ::read(fd, &got, 1);
    } while (n < 0 && errno == EINTR);
    return n == 1 && got == expected;
}

bool send(int fd, char what)
{
    return ::send(fd, &what, 1, MSG_NOSIGNAL) == 1;
}

// Nothing may be thrown into the other process's copy of what this one was about to do.
[[noreturn]] void watch(int fd, const std::function<void()> &begin, const std::function<void()> &rescue) noexcept
{
    begin();
    if (send(fd, ready) && !receive(fd, done))
        rescue();
    ::_exit(0);
}

} // namespace

Guardian::Guardian(const std::function<void()> &begin, const std::function<void()> &rescue)
{
    std::array<int, 2> ends;
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) < 0)
        fail_errno("make a socket to the guardian of the suspended device");
    line_ = UniqueFd(ends[0]);
    UniqueFd other(ends[1]);
    process_ = ::fork();
    if (process_ < 0)
        fail_errno("start the guardian of the suspended device");
    if (process_ == 0) {
        line_ = UniqueFd();
        watch(other.get(), begin, rescue);
    }
    other = UniqueFd();
    if (!receive(line_.get(), ready)) {
        ::waitpid(process_, nullptr, 0);
        fail("start the guardian of the suspended device: it ended at once");
    }
}

Guardian::~Guardian()
{
    send(line_.get(), done);
    line_ = UniqueFd();
    while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
    }
}

} // namespace liveblk::live
