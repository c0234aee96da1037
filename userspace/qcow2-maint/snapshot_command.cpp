// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

#include "base/error.hpp"
#include "live/new_top.hpp"
#include "qcow2/snapshot_edits.hpp"
#include "qcow2/warm.hpp"
#include "snapshot_list.hpp"
#include "target.hpp"
#include "text.hpp"

#include <fmt/core.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace liveblk::maint {
namespace {

struct Arguments {
    std::string image;
    std::string snapshot;
    std::string name;
    bool by_id = false;
    bool by_name = false;
    bool json = false;
    bool force_share = false;
    std::string external;
    std::optional<std::uint64_t> cluster_size;

    qcow2::SnapshotKey key() const
    {
        using By = qcow2::SnapshotKey::By;
        return {snapshot, by_id ? By::id : by_name ? By::name : By::id_or_name};
    }
};
using Shared = std::shared_ptr<Arguments>;

int edit(const Arguments &args, const live::Work &judge, const live::Work &work)
{
    report(args.json, {{"snapshot", args.snapshot}}, edit_target(args.image, judge, work));
    return status_done;
}

live::Work must_exist(const Arguments &args)
{
    return [&args](qcow2::Image &image, Progress &) { (void)image.snapshots().find(args.key(), image.path()); };
}

void add_which(Command command, const Shared &args)
{
    command.add("SNAPSHOT", args->snapshot, "its id or name").required();
    const Argument id = command.flag("--id", args->by_id, "SNAPSHOT is an id, whatever names there are");
    command.flag("--name", args->by_name, "SNAPSHOT is a name, whatever ids there are").excludes(id);
}

Command subcommand(Command parent, const Shared &args, const char *name, const char *text, const char *example)
{
    Command command = parent.command(name, text);
    command.footer(fmt::format("Example:\n  qcow2-maint snapshot {}", example));
    command.add("IMAGE", args->image, target_help).required();
    return command;
}

void add_json(Command command, const Shared &args)
{
    command.flag("--json", args->json, "print what was done as JSON");
}

int create(const Arguments &args)
{
    std::string id;
    const auto pause = edit_target(
        args.image,
        [&](qcow2::Image &image, Progress &) {
            qcow2::check_snapshot_name(image, args.name);
            qcow2::warm_disk(image);
        },
        [&](qcow2::Image &image, Progress &progress) { id = qcow2::create_snapshot(image, args.name, progress); });
    report(args.json, {{"id", id}, {"name", args.name}}, pause);
    return status_done;
}

// An image that is not attached needs nothing that qemu-img does not do.
dm::Device device_for_new_top(const Arguments &args)
{
    if (const auto device = live::find(args.image))
        return *device;
    const std::string attached = live::users_of(args.image).attached;
    if (!attached.empty())
        fail("put '{}' on top of '{}': that is in use by the live device {}; name that instead of the image",
             args.external, args.image, attached);
    fail("put '{}' on top of '{}': that is no live device; for an image that is not attached, "
         "'qemu-img create -f qcow2 -F qcow2 -b IMAGE NEW' makes a new top",
         args.external, args.image);
}

Json as_json(const live::Frozen &done)
{
    return {{"frozen", Json{{"filename", done.path}, {"format", "qcow2"}, {"bitmaps", done.bitmaps}}},
            {"top", Json{{"filename", done.top}, {"format", "qcow2"}}}};
}

void print_frozen(const live::Frozen &done)
{
    fmt::print("frozen {}\ntop    {}\n", qcow2::printable(done.path), qcow2::printable(done.top));
    for (const std::string &name : done.bitmaps)
        fmt::print("The bitmap '{}' stays in the frozen image and records no more; 'qcow2-maint bitmap add' makes one "
                   "in the new top\n",
                   qcow2::printable(name));
}

int create_external(const Arguments &args)
{
    const dm::Device device = device_for_new_top(args);
    const live::Frozen done = live::put_on_top(device, {.path = args.external, .cluster_size = args.cluster_size});
    if (!args.json)
        print_frozen(done);
    report(args.json, as_json(done), done.pause);
    return status_done;
}

void add_create(Command parent, const Shared &args)
{
    Command command = subcommand(parent, args, "create", "Take a snapshot of the disk", "create vm1 before-upgrade");
    const Argument name = command.add("NAME", args->name, "its name");
    Argument external = command.add("--external", args->external,
                                    "of a live device: leave its image as it is now, and put a new one on top, in this "
                                    "file");
    external.excludes(name);
    command.add("--cluster-size", args->cluster_size, "of the new image; that of the present one if it is not given")
        .size()
        .needs(external);
    command.flag("--json", args->json, "print what was made as JSON");
    command.action([args, name, external] {
        if (external.given())
            return create_external(*args);
        if (!name.given())
            throw UsageError("NAME is required");
        return create(*args);
    });
}

void add_delete(Command parent, const Shared &args)
{
    Command command = subcommand(parent, args, "delete", "Delete a snapshot", "delete vm1 before-upgrade");
    add_which(command, args);
    add_json(command, args);
    command.action([args] {
        const live::Work judge = [&](qcow2::Image &image, Progress &) {
            const auto &snapshots = image.snapshots().snapshots;
            const std::size_t index = image.snapshots().find(args->key(), image.path());
            qcow2::warm_disk(image);
            qcow2::warm_tables(image, image.read_l1(snapshots[index]));
        };
        return edit(*args, judge, [&](qcow2::Image &image, Progress &progress) {
            qcow2::delete_snapshot(image, args->key(), progress);
        });
    });
}

void add_revert(Command parent, const Shared &args)
{
    Command command =
        subcommand(parent, args, "revert", "Make the disk what it was at a snapshot; what it is now is lost",
                   "revert vm1.qcow2 before-upgrade");
    add_which(command, args);
    add_json(command, args);
    command.action([args] {
        if (const auto device = live::find(args->image))
            fail("revert '{}': a live device cannot be reverted under those who use it; detach it first",
                 device->name());
        edit_file(args->image, [&](qcow2::Image &image, Progress &progress) {
            qcow2::revert_to_snapshot(image, args->key(), progress);
        });
        report(args->json, {{"snapshot", args->snapshot}}, std::nullopt);
        return status_done;
    });
}

void add_rename(Command parent, const Shared &args)
{
    Command command = subcommand(parent, args, "rename", "Give a snapshot another name", "rename vm1 1 first");
    add_which(command, args);
    command.add("NAME", args->name, "its new name").required();
    add_json(command, args);
    command.action([args] {
        return edit(*args, must_exist(*args), [&](qcow2::Image &image, Progress &progress) {
            qcow2::rename_snapshot(image, args->key(), args->name, progress);
        });
    });
}

int list(const Arguments &args)
{
    const auto device = live::find(args.image);
    const auto access = args.force_share ? qcow2::Access::read_only_shared : qcow2::Access::read_only;
    const qcow2::Image image = device ? live::read_beside(*device) : qcow2::Image(args.image, access);
    const auto &snapshots = image.snapshots().snapshots;
    if (args.json)
        snapshots_as_json(snapshots).print();
    else
        print_snapshots(snapshots);
    return status_done;
}

void add_list(Command parent, const Shared &args)
{
    Command command = subcommand(parent, args, "list", "List the snapshots", "list --json vm1.qcow2");
    command.flag("--json", args->json, "as JSON");
    command.flag("-U,--force-share", args->force_share, "also while a program has the image open for writing");
    command.action([args] { return list(*args); });
}

} // namespace

void add_snapshot(Command root)
{
    Command snapshot = root.command("snapshot", "Create, list, delete, rename, revert to snapshots");
    snapshot.footer("Example:\n  qcow2-maint snapshot list vm1.qcow2");
    snapshot.needs_command();
    const auto args = std::make_shared<Arguments>();
    add_create(snapshot, args);
    add_list(snapshot, args);
    add_delete(snapshot, args);
    add_revert(snapshot, args);
    add_rename(snapshot, args);
}

} // namespace liveblk::maint
