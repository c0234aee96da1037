// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

#include "base/error.hpp"
#include "health.hpp"

#include <memory>
#include <optional>

namespace liveblk::interpose {
namespace {

struct Arguments {
    std::string name;
    bool json = false;
};

const char *state_text(std::uint32_t state)
{
    switch (state) {
    case BLK_INTERPOSER_IDLE:
        return "idle";
    case BLK_INTERPOSER_ACTIVE:
        return "active";
    default:
        return "in transition";
    }
}

// The device-mapper name of a pair's target, or an empty string.
std::string target_of(const blk_interposer_status &pair)
{
    if (!pair.target)
        return "";
    const auto device = dm::Device::find(fmt::format("/dev/{}", pair.target_name));
    return device ? device->name() : pair.target_name;
}

std::vector<std::string> warnings(const blk_interposer_status &pair)
{
    std::vector<std::string> texts;
    if (pair.warnings & BLK_INTERPOSER_WARN_REMOVED)
        texts.emplace_back("the original has been removed");
    if (pair.warnings & BLK_INTERPOSER_WARN_RESIZED)
        texts.emplace_back("the original has another size than the target");
    if (pair.warnings & BLK_INTERPOSER_WARN_DAX)
        texts.emplace_back("the original can be accessed directly (DAX), which is not seen");
    if (pair.warnings & BLK_INTERPOSER_WARN_PAGES)
        texts.emplace_back("the original's driver takes pages past the block layer (rw_page), which is not seen");
    if (pair.bypassed)
        texts.emplace_back(fmt::format("{} writes to the whole disk went past the target", pair.bypassed));
    return texts;
}

// For lists: what failed does not do what it is for, and passes I/O on or not.
std::string state_of(const blk_interposer_status &pair, const std::vector<Failure> &failures)
{
    return fmt::format("{}{}", state_text(pair.state), failures.empty() ? "" : ", failed");
}

Json as_json(const blk_interposer_status &pair)
{
    return {{"name", target_of(pair)},
            {"original", fmt::format("/dev/{}", pair.original_name)},
            {"lower", fmt::format("/dev/{}", pair.lower_name)},
            {"state", state_text(pair.state)},
            {"size", pair.sectors * 512},
            {"redirected", pair.redirected},
            {"parked", pair.parked},
            {"again", pair.again},
            {"bypassed", pair.bypassed},
            {"owned", (pair.flags & BLK_INTERPOSER_OWNED) != 0},
            {"failures", as_json(failures_of(pair))},
            {"warnings", warnings(pair)}};
}

void list(const Arguments &args)
{
    const Control control;
    const auto pairs = control.all();
    if (args.json) {
        Json array = Json::array();
        for (const auto &pair : pairs)
            array.push_back(as_json(pair));
        array.print();
        return;
    }
    fmt::print("{:<20} {:<16} {:<16} {}\n", "NAME", "ORIGINAL", "LOWER", "STATE");
    for (const auto &pair : pairs) {
        const std::string name = target_of(pair);
        fmt::print("{:<20} {:<16} {:<16} {}\n", name.empty() ? "-" : name, pair.original_name, pair.lower_name,
                   state_of(pair, failures_of(pair)));
    }
}

void status(const Arguments &args)
{
    auto device = dm::Device::find(origin_name(args.name));
    if (!device)
        device = dm::Device::find(args.name);
    if (!device)
        fail("show '{}': there is no such device", args.name);
    const Control control;
    const auto pair = find_pair(control, *device);
    if (!pair)
        fail("show '{}': it is not attached to any device", args.name);
    if (args.json) {
        as_json(*pair).print();
        return;
    }
    const auto failures = failures_of(*pair);
    fmt::print("original:   /dev/{}\nlower disk: /dev/{}\nstate:      {}\nsize:       {} bytes\n"
               "redirected: {} bios, {} held back, {} told to try again\n",
               pair->original_name, pair->lower_name, state_of(*pair, failures), pair->sectors * 512, pair->redirected,
               pair->parked, pair->again);
    for (const Failure &failure : failures)
        fmt::print("failed:     {}\n", describe(failure));
    for (const std::string &text : warnings(*pair))
        fmt::print("warning:    {}\n", text);
}

} // namespace

Json as_json(const std::vector<Failure> &failures)
{
    Json array = Json::array();
    for (const Failure &failure : failures)
        array.push_back({{"device", failure.device}, {"target", failure.type}, {"reason", failure.reason}});
    return array;
}

void add_list(Command root)
{
    auto args = std::make_shared<Arguments>();
    Command command = root.command("list", "list what is interposed");
    command.flag("--json", args->json, "print JSON");
    command.action([args] { list(*args); });
}

void add_status(Command root)
{
    auto args = std::make_shared<Arguments>();
    Command command = root.command("status", "show one device");
    command.add("NAME", args->name, "of the device").required();
    command.flag("--json", args->json, "print JSON");
    command.action([args] { status(*args); });
}

} // namespace liveblk::interpose
