// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

#include "base/error.hpp"
#include "bitmap_list.hpp"
#include "qcow2/bitmap_edits.hpp"
#include "qcow2/bitmaps.hpp"
#include "target.hpp"

#include <fmt/core.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace liveblk::maint {
namespace {

struct Arguments {
    std::string image;
    std::string name;
    std::string source;
    std::string from;
    std::optional<std::uint64_t> granularity;
    bool disabled = false;
    bool json = false;
    bool force_share = false;
};
using Shared = std::shared_ptr<Arguments>;
using Edit = void (*)(qcow2::Image &, const std::string &, Progress &);

Command subcommand(Command parent, const Shared &args, const char *name, const char *text, const char *example)
{
    Command command = parent.command(name, text);
    command.footer(fmt::format("Example:\n  qcow2-maint bitmap {}", example));
    command.add("IMAGE", args->image, target_help).required();
    return command;
}

Command named(Command parent, const Shared &args, const char *name, const char *text, const char *example)
{
    Command command = subcommand(parent, args, name, text, example);
    command.add("BITMAP", args->name, "its name").required();
    return command;
}

void add_json(Command command, const Shared &args)
{
    command.flag("--json", args->json, "print what was done as JSON");
}

int report(const Arguments &args, const std::optional<live::Pause> &pause)
{
    maint::report(args.json, {{"bitmap", args.name}}, pause);
    return status_done;
}

live::Work must_exist(const Arguments &args)
{
    return [&args](qcow2::Image &image, Progress &) { (void)qcow2::read_bitmaps(image).find(args.name, image.path()); };
}

void add_add(Command parent, const Shared &args)
{
    Command command =
        named(parent, args, "add", "Add a bitmap, which records what changes from now on", "add -g 64K vm1 monday");
    command
        .add("-g,--granularity", args->granularity,
             "bytes of the disk that a bit stands for; as large as a cluster, "
             "but 4K to 64K, if it is not given")
        .size();
    command.flag("--disabled", args->disabled, "it records nothing before it is enabled");
    add_json(command, args);
    command.action([args] {
        const auto bitmap = [args](const qcow2::Image &image) {
            return qcow2::NewBitmap{args->name, args->granularity.value_or(qcow2::default_granularity(image)),
                                    !args->disabled};
        };
        return report(
            *args, edit_target(
                       args->image, [&](qcow2::Image &image, Progress &) { check_new_bitmap(image, bitmap(image)); },
                       [&](qcow2::Image &image, Progress &progress) { add_bitmap(image, bitmap(image), progress); }));
    });
}

void add_edit(Command parent, const Shared &args, const char *name, const char *text, const char *example, Edit edit)
{
    Command command = named(parent, args, name, text, example);
    add_json(command, args);
    command.action([args, edit] {
        return report(*args, edit_target(args->image, must_exist(*args), [&](qcow2::Image &image, Progress &progress) {
            edit(image, args->name, progress);
        }));
    });
}

void enable(qcow2::Image &image, const std::string &name, Progress &progress)
{
    enable_bitmap(image, name, true, progress);
}

void disable(qcow2::Image &image, const std::string &name, Progress &progress)
{
    enable_bitmap(image, name, false, progress);
}

qcow2::Bits bits_of(const qcow2::Image &image, const std::string &name)
{
    const qcow2::BitmapDirectory directory = qcow2::read_bitmaps(image);
    return read_bits(image, directory.bitmaps[directory.find(name, image.path())]);
}

int merge(const Arguments &args)
{
    std::optional<qcow2::Bits> source;
    if (!args.from.empty())
        source = bits_of(qcow2::Image(args.from, qcow2::Access::read_only), args.source);
    return report(args, edit_target(args.image, must_exist(args), [&](qcow2::Image &image, Progress &progress) {
                      if (source && source->disk_size() != image.header().size)
                          fail("merge the bitmap '{}' of '{}' into '{}': the disks have {} and {} bytes",
                               qcow2::printable(args.source), args.from, image.path(), source->disk_size(),
                               image.header().size);
                      if (!source)
                          source = bits_of(image, args.source);
                      merge_into_bitmap(image, args.name, *source, progress);
                  }));
}

void add_merge(Command parent, const Shared &args)
{
    Command command =
        named(parent, args, "merge", "Add to a bitmap what another one has recorded", "merge vm1 week monday");
    command.add("SOURCE", args->source, "the name of the other one").required();
    command.add("--from", args->from, "the image that has it, if that is another one");
    add_json(command, args);
    command.action([args] { return merge(*args); });
}

int list(const Arguments &args)
{
    const auto device = live::find(args.image);
    const auto access = args.force_share ? qcow2::Access::read_only_shared : qcow2::Access::read_only;
    const qcow2::Image image = device ? live::read_beside(*device) : qcow2::Image(args.image, access);
    const std::vector<qcow2::Bitmap> bitmaps = qcow2::read_bitmaps(image).bitmaps;
    if (args.json)
        bitmaps_as_json(bitmaps).print();
    else
        print_bitmaps(bitmaps);
    return status_done;
}

void add_list(Command parent, const Shared &args)
{
    Command command = subcommand(parent, args, "list", "List the bitmaps", "list --json vm1.qcow2");
    command.flag("--json", args->json, "as JSON");
    command.flag("-U,--force-share", args->force_share, "also while a program has the image open for writing");
    command.action([args] { return list(*args); });
}

// A live device is suspended for it: until then only it knows all that was recorded.
int dump(const Arguments &args)
{
    std::optional<qcow2::Bits> bits;
    std::optional<live::Pause> pause;
    if (const auto device = live::find(args.image))
        pause = live::with_suspended(*device, qcow2::Access::read_only, live::ImageState::sound, must_exist(args),
                                     [&](qcow2::Image &image, Progress &) { bits = bits_of(image, args.name); });
    else
        bits = bits_of(qcow2::Image(args.image, qcow2::Access::read_only), args.name);
    Json json = {{"bitmap", args.name}, {"granularity", 1ULL << bits->granularity_bits()}};
    // There may be billions of them.
    json["ranges"] = Json::items([&bits](const auto &print) {
        bits->for_each_range([&print](std::uint64_t start, std::uint64_t length) {
            print({{"start", start}, {"length", length}});
        });
    });
    add_pause(json, pause);
    json.print();
    return status_done;
}

} // namespace

void add_bitmap(Command root)
{
    Command bitmap = root.command("bitmap", "Bitmaps that record which parts of the disk have changed");
    bitmap.footer("Example:\n  qcow2-maint bitmap list vm1.qcow2");
    bitmap.needs_command();
    const auto args = std::make_shared<Arguments>();
    add_add(bitmap, args);
    add_list(bitmap, args);
    add_edit(bitmap, args, "remove", "Remove a bitmap", "remove vm1 monday", qcow2::remove_bitmap);
    add_edit(bitmap, args, "clear", "Have a bitmap say that nothing has changed", "clear vm1 monday",
             qcow2::clear_bitmap);
    add_edit(bitmap, args, "enable", "Have a bitmap record what changes", "enable vm1 monday", enable);
    add_edit(bitmap, args, "disable", "Have a bitmap record no more", "disable vm1 monday", disable);
    add_merge(bitmap, args);
    Command command =
        named(bitmap, args, "dump", "Print what a bitmap has recorded, as JSON: ranges in bytes", "dump vm1 monday");
    command.action([args] { return dump(*args); });
}

} // namespace liveblk::maint
