// SPDX-License-Identifier: GPL-2.0-only
// The calls of the control device one by one, past all that blk-interpose checks before. A pair that is made stays.
//   interposer-call create DEVICE|fd:NUMBER           prints its id and its lower disk
//   interposer-call attach ID TARGET MILLISECONDS     the time limit of each wait
//   interposer-call detach ID MILLISECONDS
//   interposer-call destroy ID
// With --no-freeze before it, attach and detach leave file systems alone. A failure names step and reason by number.
#include "base/error.hpp"
#include "open_or_fail.hpp"

#include <blk-interposer.h>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

using namespace liveblk;

namespace {

using Words = std::vector<std::string>;

std::uint32_t number(const std::string &word)
{
    return static_cast<std::uint32_t>(std::stoul(word));
}

template <typename Call>
void make(const UniqueFd &control, unsigned long command, const char *name, Call &call)
{
    if (::ioctl(control.get(), command, &call) != 0)
        fail_errno(fmt::format("{}: step {} reason {}", name, call.error.step, call.error.reason));
}

void create(const UniqueFd &control, const std::string &device)
{
    const bool inherited = device.starts_with("fd:");
    const UniqueFd original = inherited ? UniqueFd(::dup(std::stoi(device.substr(3)))) : open_or_fail(device, O_RDONLY);
    blk_interposer_create call = {};
    call.fd = original.get();
    make(control, BLK_INTERPOSER_CREATE, "create", call);
    fmt::print("{} /dev/{}\n", call.id, call.lower_name);
}

void attach(const UniqueFd &control, const Words &words, std::uint32_t flags)
{
    const UniqueFd target = open_or_fail(words[1], O_RDONLY);
    blk_interposer_attach call = {};
    call.id = number(words[0]);
    call.fd = target.get();
    call.flags = flags;
    call.timeout_ms = number(words[2]);
    make(control, BLK_INTERPOSER_ATTACH, "attach", call);
}

void detach(const UniqueFd &control, const Words &words, std::uint32_t flags)
{
    blk_interposer_detach call = {};
    call.id = number(words[0]);
    call.flags = flags;
    call.timeout_ms = number(words[1]);
    make(control, BLK_INTERPOSER_DETACH, "detach", call);
    fmt::print("{}\n", call.parked_ns / 1'000'000);
}

void destroy(const UniqueFd &control, const std::string &id)
{
    blk_interposer_destroy call = {};
    call.id = number(id);
    make(control, BLK_INTERPOSER_DESTROY, "destroy", call);
}

void run(Words words)
{
    std::uint32_t flags = 0;
    if (!words.empty() && words[0] == "--no-freeze") {
        flags = BLK_INTERPOSER_NO_FREEZE;
        words.erase(words.begin());
    }
    const std::string what = words.empty() ? "" : words[0];
    const Words rest(words.empty() ? words.end() : words.begin() + 1, words.end());
    const UniqueFd control = open_or_fail(BLK_INTERPOSER_DEVICE, O_RDWR);
    if (what == "create" && rest.size() == 1)
        create(control, rest[0]);
    else if (what == "attach" && rest.size() == 3)
        attach(control, rest, flags);
    else if (what == "detach" && rest.size() == 2)
        detach(control, rest, flags);
    else if (what == "destroy" && rest.size() == 1)
        destroy(control, rest[0]);
    else
        fail("usage: interposer-call [--no-freeze] create|attach|detach|destroy ...");
}

} // namespace

int main(int argc, char **argv)
{
    try {
        run(Words(argv + 1, argv + argc));
        return 0;
    } catch (const std::exception &e) {
        std::fprintf(stderr, "interposer-call: %s\n", e.what());
        return 1;
    }
}
