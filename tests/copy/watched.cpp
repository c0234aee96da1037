// SPDX-License-Identifier: GPL-2.0-only
// copy-watched DEVICE: whoever is asked for permission to read from DEVICE (fanotify) is asked for copies too. He
// refuses: the copy fails with EPERM and does nothing. Without him, the same copy is done.
#include "copier.hpp"
#include "error.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/fanotify.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <thread>

using namespace liveblk;
using liveblk::copy::Copier;
using liveblk::copy::Emulate;
using liveblk::copy::Outcome;

namespace {

constexpr std::uint64_t length = 65536;

// Answers what has been asked so far, with no; returns how often.
unsigned refuse(int watch)
{
    fanotify_event_metadata event = {};
    if (::read(watch, &event, sizeof(event)) != sizeof(event))
        fail_errno("read what is asked for");
    const UniqueFd about(event.fd);
    const fanotify_response answer = {event.fd, FAN_DENY};
    if (::write(watch, &answer, sizeof(answer)) != sizeof(answer))
        fail_errno("answer");
    return 1;
}

void must_be(const Outcome &got, int error, std::uint64_t done)
{
    if (got.error != error || got.done != done)
        fail("error {} and {} bytes, and not error {} and {}", got.error, got.done, error, done);
}

UniqueFd open_device(const std::string &device)
{
    UniqueFd fd(::open(device.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd)
        fail_errno(fmt::format("open '{}'", device));
    return fd;
}

unsigned copy_watched(const std::string &device, const Copier &copier)
{
    const UniqueFd watch(::fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY | O_CLOEXEC));
    if (!watch)
        fail_errno("fanotify_init");
    if (::fanotify_mark(watch.get(), FAN_MARK_ADD, FAN_ACCESS_PERM, AT_FDCWD, device.c_str()) != 0)
        fail_errno(fmt::format("watch '{}'", device));
    // Kernels look for who watches when a file is opened.
    const UniqueFd fd = open_device(device);
    std::atomic<bool> over = false;
    Outcome outcome;
    std::thread other([&] {
        outcome = copier.copy(fd.get(), 0, fd.get(), length, length, Emulate::automatic);
        over = true;
    });
    unsigned asked = 0;
    while (!over) {
        pollfd wait = {watch.get(), POLLIN, 0};
        if (::poll(&wait, 1, 50) > 0)
            asked += refuse(watch.get());
    }
    other.join();
    must_be(outcome, EPERM, 0);
    return asked;
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2) {
        std::fprintf(stderr, "usage: copy-watched DEVICE\n");
        return 2;
    }
    try {
        const Copier copier;
        const unsigned asked = copy_watched(argv[1], copier);
        if (asked != 1)
            fail("permission was asked for {} times", asked);
        const UniqueFd fd = open_device(argv[1]);
        must_be(copier.copy(fd.get(), 0, fd.get(), length, length, Emulate::automatic), 0, length);
        fmt::print("a copy was refused by who watches\n");
        return 0;
    } catch (const std::exception &e) {
        std::fprintf(stderr, "copy-watched: %s\n", e.what());
        return 1;
    }
}
