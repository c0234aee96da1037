// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

#include "base/error.hpp"
#include "original.hpp"

#include <cstdio>
#include <memory>

namespace liveblk::interpose {
namespace {

struct Arguments {
    std::string name;
    std::string table;
    bool no_freeze = false;
    bool json = false;
};

Json facts_of(const char *verb, const std::string &name, const std::string &original, const Times &times)
{
    Json facts = {{"name", name}, {"action", verb}};
    if (!original.empty())
        facts["original"] = original;
    facts["parked-ns"] = times.parked;
    facts["frozen-ns"] = times.frozen;
    return facts;
}

void create(const Arguments &args)
{
    const MarkedTable table = parse_table(args.table);
    require_free_name(args.name);
    undoing([&] {
        Interposition interposition(table.original);
        const dm::Device device = interposition.create_device(args.name, table.on(interposition.lower()));
        report(args.json, "attached", args.name, table.original, interposition.attach(device));
    });
}

// A snapshot is removed by its own name, not by that of its origin.
void remove(const Arguments &args)
{
    const std::string origin = origin_name(args.name);
    const bool snapshot = dm::Device::find(args.name) && dm::Device::find(origin);
    const Removed removed = snapshot ? remove_interposition(origin, {args.name}, !args.no_freeze)
                                     : remove_interposition(args.name, {}, !args.no_freeze);
    for (const Failure &failure : removed.failures)
        fmt::print(stderr, "blk-interpose: warning: it had failed before: {}\n", describe(failure));
    if (!args.json)
        return report(false, "detached", args.name, "", removed.times);
    Json facts = facts_of("detached", args.name, "", removed.times);
    facts["failures"] = as_json(removed.failures);
    facts.print();
}

} // namespace

void report(bool json, const char *verb, const std::string &name, const std::string &original, const Times &times)
{
    if (json)
        facts_of(verb, name, original, times).print();
    else
        fmt::print("{} {}: {}\n", name, verb, describe(times));
}

void add_create(Command root)
{
    auto args = std::make_shared<Arguments>();
    Command command = root.command("create", "put a device-mapper target under a device that is in use");
    command.add("NAME", args->name, "of the device to create").required();
    command.add("--table", args->table, "one line, with [interpose] before the device").required();
    command.flag("--json", args->json, "print JSON");
    command.action([args] { create(*args); });
}

void add_remove(Command root)
{
    auto args = std::make_shared<Arguments>();
    Command command = root.command("remove", "take it out again");
    command.add("NAME", args->name, "of the device").required();
    command.flag("--no-freeze", args->no_freeze, "also while a file system is frozen, or counts as such");
    command.flag("--json", args->json, "print JSON");
    command.action([args] { remove(*args); });
}

} // namespace liveblk::interpose
