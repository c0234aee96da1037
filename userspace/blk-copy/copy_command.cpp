// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"
#include "copier.hpp"
#include "location.hpp"

#include "base/byte_size.hpp"
#include "base/error.hpp"
#include "base/json.hpp"
#include "base/progress.hpp"

#include <fcntl.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <memory>

namespace liveblk::copy {
namespace {

// What one call copies, so that there is something to be told in between.
constexpr std::uint64_t step = std::uint64_t{128} << 20;

volatile std::sig_atomic_t interrupted = 0;

struct Arguments {
    std::string source;
    std::string destination;
    std::string length;
    Emulate emulate = Emulate::never;
    bool json = false;
};

// Whole calls are ended by the signal too, and say how far they came. They are also by what is no signal to us: a
// suspend to RAM, the freezing of a control group, being stopped. Then there is more to do.
void catch_signals()
{
    struct sigaction action {};
    action.sa_handler = [](int) { interrupted = 1; };
    for (const int number : {SIGINT, SIGTERM})
        ::sigaction(number, &action, nullptr);
}

std::string reason(int error)
{
    switch (error) {
    case EOPNOTSUPP:
        return "no driver copies this by itself (--emulate=auto reads and writes instead)";
    case EBUSY:
        return "the destination is in use: mounted, or part of something that is active";
    case EROFS:
        return "the destination is read-only";
    case EINTR:
        return "interrupted";
    case EINVAL:
        return "the ranges overlap, or are no multiples of the logical block sizes";
    default:
        return std::generic_category().message(error);
    }
}

std::uint64_t length_of(const Arguments &args, const Location &from, const Device &src, const Location &to,
                        const Device &dst)
{
    if (from.offset > src.size)
        fail("copy from '{}': it ends at {}", args.source, src.size);
    const std::uint64_t length = args.length.empty() ? src.size - from.offset : parse_bytes(args.length);
    if (length > src.size - from.offset)
        fail("copy {} bytes from '{}': it ends at {}", length, args.source, src.size);
    if (to.offset > dst.size || length > dst.size - to.offset)
        fail("copy {} bytes to '{}': it ends at {}", length, args.destination, dst.size);
    if (!length)
        fail("copy from '{}': there is nothing to copy", args.source);
    return length;
}

void print_json(const Arguments &args, const Outcome &total, double seconds)
{
    const Json facts = {{"source", args.source}, {"destination", args.destination},
                        {"bytes", total.done},   {"offloaded", total.offloaded},
                        {"seconds", seconds},    {"complete", total.error == 0}};
    facts.print();
}

void copy(const Arguments &args)
{
    const Location from = Location::parse(args.source);
    const Location to = Location::parse(args.destination);
    const Device src = Device::open(from.path, O_RDONLY);
    const Device dst = Device::open(to.path, O_WRONLY);
    const std::uint64_t length = length_of(args, from, src, to, dst);
    const Copier copier;
    catch_signals();
    Outcome total;
    const auto start = std::chrono::steady_clock::now();
    {
        Progress progress;
        progress.begin("copy", length);
        while (total.done < length && !total.error) {
            const Outcome part = copier.copy(src.fd.get(), from.offset + total.done, dst.fd.get(),
                                             to.offset + total.done, std::min(step, length - total.done), args.emulate);
            total.done += part.done;
            total.offloaded += part.offloaded;
            total.error = part.error == EINTR ? 0 : part.error;
            if (!total.error && interrupted && total.done < length)
                total.error = EINTR;
            progress.advance(part.done);
        }
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    if (args.json)
        print_json(args, total, seconds.count());
    if (total.error)
        fail("copy '{}' to '{}': {}; {} of {} bytes are copied", args.source, args.destination, reason(total.error),
             total.done, length);
}

} // namespace

void add_copy(Command root)
{
    const auto args = std::make_shared<Arguments>();
    root.add("SRC", args->source, "block device, or DEVICE:OFFSET");
    root.add("DST", args->destination, "block device, or DEVICE:OFFSET");
    root.add("LEN", args->length, std::string(byte_size_help) + " (default: up to the end of SRC)");
    root.choice("--emulate", args->emulate,
                {{"never", Emulate::never}, {"auto", Emulate::automatic}, {"always", Emulate::always}},
                "read and write: never, auto (where no driver copies), always");
    root.flag("--json", args->json, "print JSON");
    root.action([args] {
        if (args->destination.empty())
            throw UsageError("SRC and DST is required");
        copy(*args);
    });
}

} // namespace liveblk::copy
