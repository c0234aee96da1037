// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

#include "backing_device.hpp"
#include "base/error.hpp"
#include "original.hpp"

#include <memory>

namespace liveblk::interpose {
namespace {

struct Arguments {
    std::string original;
    std::string name;
    std::string cow;
    unsigned chunk_sectors = 16;
    bool json = false;
};

// Room for every chunk, and for what dm-snapshot notes of each (16 bytes).
std::uint64_t cow_bytes(std::uint64_t sectors, unsigned chunk_sectors)
{
    return sectors * 512 + (sectors / chunk_sectors + 1) * 16 + (4 << 20);
}

// The snapshot is made before its origin: from the moment that the origin has the original's writes, none is missed.
void snapshot(const Arguments &args)
{
    const std::uint64_t sectors = sectors_of(args.original);
    require_free_name(args.name);
    require_free_name(origin_name(args.name));
    undoing([&] {
        const BackingDevice cow(args.cow, cow_bytes(sectors, args.chunk_sectors), args.original);
        Interposition interposition(args.original);
        interposition.create_device(
            args.name,
            {.start = 0,
             .length = sectors,
             .type = "snapshot",
             .params = fmt::format("{} {} P {}", interposition.lower(), cow.device(), args.chunk_sectors)},
            dm::Names::if_no_other);
        const dm::Device origin = interposition.create_device(
            origin_name(args.name),
            {.start = 0, .length = sectors, .type = "snapshot-origin", .params = interposition.lower()});
        report(args.json, "attached", args.name, args.original, interposition.attach(origin));
    });
}

} // namespace

std::string origin_name(const std::string &snapshot)
{
    return snapshot + "-origin";
}

void add_snapshot(Command root)
{
    auto args = std::make_shared<Arguments>();
    Command command = root.command("snapshot", "make a device that keeps what a device holds now");
    command.add("DEVICE", args->original, "a disk or partition, mounted or not").required();
    command.add("NAME", args->name, "of the snapshot device").required();
    command.add("--cow", args->cow, "a file (created if need be) or device for what is overwritten").required();
    command.add("--chunk", args->chunk_sectors, "chunk size in sectors, a power of two (16)");
    command.flag("--json", args->json, "print JSON");
    command.action([args] { snapshot(*args); });
}

} // namespace liveblk::interpose
