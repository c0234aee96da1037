// SPDX-License-Identifier: GPL-2.0-only
#include "interposition.hpp"

#include "base/error.hpp"
#include "filesystems.hpp"
#include "users.hpp"

#include <cstdio>

namespace liveblk::interpose {

namespace {

// The "raid" target of device-mapper sends the rest of a discard to its own device once more, as the bio that
// device-mapper has made, so that the module cannot know it from another one: it would go through the target twice.
const std::string &checked(const std::string &original)
{
    if (const auto device = dm::Device::find(original))
        for (const dm::Target &target : device->table())
            if (target.type == "raid")
                fail("interpose '{}': it has a 'raid' target, whose discards would go through the target twice",
                     original);
    require_known_users(original);
    return original;
}

// The module sees some of these; not, for instance, a cow device that is another partition of the same disk.
void require_no_loop(const std::string &target, const std::string &original)
{
    stack::BlockStack stack;
    const auto way = stack.way(stack::device_number(target), stack::device_number(original));
    if (way)
        fail("attach '{}': some of it is on '{}' itself, so that it would wait for itself: {}", target, original,
             stack::describe(*way));
}

} // namespace

Interposition::Interposition(const std::string &original)
    : original_(original), pair_(control_.create(checked(original)))
{
    undo_.emplace_back([this] { control_.destroy(pair_); });
}

Interposition::~Interposition()
{
    while (!undo_.empty()) {
        try {
            undo_.back()();
        } catch (const std::exception &e) {
            fmt::print(stderr, "blk-interpose: put back: {}\n", e.what());
        }
        undo_.pop_back();
    }
}

dm::Device Interposition::create_device(const std::string &name, const dm::Target &target, dm::Names names)
{
    dm::Device device = dm::Device::create(name, target, false, names);
    undo_.emplace_back([device] { device.remove(); });
    return device;
}

Times Interposition::attach(const dm::Device &target)
{
    shield_.check();
    require_no_loop(target.path(), original_);
    const Times times = control_.attach(pair_, target.path(), unlisted_filesystems(original_));
    undo_.clear();
    return times;
}

void require_free_name(const std::string &name)
{
    if (name.empty() || name.find('/') != std::string::npos)
        fail("create '{}': it is no name for a device", name);
    if (dm::Device::find(name))
        fail("create '{}': there is a device of that name", name);
}

void warn_of_unseen(const stack::BlockStack &stack, const std::string &path, const std::string &original)
{
    for (const std::string &what : stack.unseen())
        fmt::print(stderr, "blk-interpose: '{}': what is behind {} cannot be seen from here; it must not be on '{}'\n",
                   path, what, original);
}

void undoing(const std::function<void()> &command)
{
    try {
        command();
    } catch (const Error &e) {
        fail("{}; everything was put back", e.what());
    }
}

std::optional<blk_interposer_status> find_pair(const Control &control, const dm::Device &target)
{
    const std::uint64_t number = static_cast<std::uint64_t>(target.major()) << 32 | target.minor();
    for (const blk_interposer_status &pair : control.all())
        if (pair.target == number)
            return pair;
    return std::nullopt;
}

// The original may be gone, and its node with it.
static std::vector<UniqueFd> filesystems_of(const blk_interposer_status &pair)
{
    if (pair.warnings & BLK_INTERPOSER_WARN_REMOVED)
        return {};
    return unlisted_filesystems(stack::node_of(pair.original));
}

Removed remove_interposition(const std::string &name, const std::vector<std::string> &others, bool freeze)
{
    const auto device = dm::Device::find(name);
    if (!device)
        fail("remove '{}': there is no such device", name);
    const SignalShield shield;
    const Control control;
    const auto pair = find_pair(control, *device);
    if (!pair)
        fail("remove '{}': it is not attached to any device", name);
    for (const std::string &other : others)
        if (const auto found = dm::Device::find(other))
            if (found->info().open_count > 0)
                fail("remove '{}': '{}' is in use", name, other);
    // Of devices that are gone nobody could tell.
    Removed removed = {.times = {}, .failures = failures_of(*pair)};
    removed.times =
        control.detach(pair->id, device->path(), freeze ? std::optional(filesystems_of(*pair)) : std::nullopt);
    for (const std::string &other : others)
        if (const auto found = dm::Device::find(other))
            found->remove();
    device->remove();
    control.destroy({.id = pair->id, .lower = fmt::format("/dev/{}", pair->lower_name)});
    return removed;
}

std::string describe(const Times &times)
{
    const std::string held = fmt::format("I/O was held back for {:.1f} ms", static_cast<double>(times.parked) / 1e6);
    if (!times.frozen)
        return held + ", no file system was frozen";
    return fmt::format("{}, the file system was frozen for {:.1f} ms", held, static_cast<double>(times.frozen) / 1e6);
}

} // namespace liveblk::interpose
