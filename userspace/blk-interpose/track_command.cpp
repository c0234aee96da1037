// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

#include "backing_device.hpp"
#include "base/error.hpp"
#include "changes.hpp"
#include "original.hpp"

#include <cstdio>
#include <memory>

namespace liveblk::interpose {
namespace {

struct Arguments {
    std::string original;
    std::string name;
    std::string metadata;
    unsigned block_sectors = 128;
    std::uint64_t since = 0;
    bool json = false;
};

// Far more than dm-era needs: a bit a block and era, and some for its trees.
constexpr std::uint64_t metadata_bytes = 64 << 20;

void track(const Arguments &args)
{
    const std::uint64_t sectors = sectors_of(args.original);
    require_free_name(args.name);
    undoing([&] {
        const BackingDevice metadata(args.metadata, metadata_bytes, args.original);
        Interposition interposition(args.original);
        const dm::Device device = interposition.create_device(
            args.name,
            {.start = 0,
             .length = sectors,
             .type = "era",
             .params = fmt::format("{} {} {}", metadata.device(), interposition.lower(), args.block_sectors)});
        report(args.json, "attached", args.name, args.original, interposition.attach(device));
    });
}

void print_changes(const Changes &changes, bool json)
{
    if (!json) {
        for (const ChangedRange &range : changes.ranges)
            fmt::print("{} {}\n", range.begin, range.end - range.begin);
        fmt::print(stderr, "next time: --since {}\n", changes.now);
        return;
    }
    Json ranges = Json::array();
    for (const ChangedRange &range : changes.ranges)
        ranges.push_back({{"offset", range.begin}, {"length", range.end - range.begin}});
    const Json facts = {
        {"since", changes.since}, {"next", changes.now}, {"granule", changes.granule}, {"changed", ranges}};
    facts.print();
}

void changes(const Arguments &args)
{
    const auto device = dm::Device::find(args.name);
    if (!device)
        fail("read the changes of '{}': there is no such device", args.name);
    print_changes(read_changes(*device, args.since), args.json);
}

} // namespace

void add_track(Command root)
{
    auto args = std::make_shared<Arguments>();
    Command command = root.command("track", "record which blocks of a device are written");
    command.add("DEVICE", args->original, "a disk or partition, mounted or not").required();
    command.add("NAME", args->name, "of the device that records").required();
    command.add("--meta", args->metadata, "a file (created if need be) or device for the record").required();
    command.add("--block", args->block_sectors, "sectors that are one block of the record (128)");
    command.flag("--json", args->json, "print JSON");
    command.action([args] { track(*args); });
}

void add_changes(Command root)
{
    auto args = std::make_shared<Arguments>();
    Command command = root.command("changes", "print what was written since an era, and begin a new one");
    command.add("NAME", args->name, "of the device that records").required();
    command.add("--since", args->since, "an era: what an earlier call named; 0 for all").required();
    command.flag("--json", args->json, "print JSON");
    command.action([args] { changes(*args); });
}

} // namespace liveblk::interpose
