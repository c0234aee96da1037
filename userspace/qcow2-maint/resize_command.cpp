// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

#include "base/byte_size.hpp"
#include "base/error.hpp"
#include "qcow2/backing.hpp"
#include "qcow2/chain.hpp"
#include "qcow2/resize.hpp"
#include "size.hpp"
#include "target.hpp"

#include <memory>
#include <optional>
#include <string>

namespace liveblk::maint {
namespace {

struct Arguments {
    std::string image;
    std::string size;
    bool shrink = false;
    bool json = false;
};

// Whoever has it open would find its data gone.
void refuse_to_shrink_in_use(const dm::Device &device, std::uint64_t from, std::uint64_t to)
{
    if (to < from && device.info().open_count)
        fail("shrink '{}': the device is in use: mounted, open, or below another device", device.name());
}

// A device knows the file by its table, which the name in the image may not lead to.
std::uint64_t size_below(const qcow2::Image &image, const std::optional<dm::Device> &device)
{
    if (!device)
        return qcow2::backing_size(image.path(), image.header());
    const auto layers = live::layers_below(*device);
    if (layers.empty())
        return 0;
    return qcow2::disk_size(qcow2::open_layer(layers.front(), qcow2::Access::read_only_shared), layers.front().format);
}

int resize(const Arguments &args)
{
    const auto device = live::find(args.image);
    const auto shrink = args.shrink ? qcow2::Shrink::allow : qcow2::Shrink::refuse;
    std::uint64_t size = 0;
    std::uint64_t backing = 0;
    const auto choose = [&](const qcow2::Image &image) {
        size = parse_size(args.size).from(image.header().size);
        qcow2::check_resize(image, size, shrink);
        if (device)
            refuse_to_shrink_in_use(*device, image.header().size, size);
    };
    const live::Work judge = [&](qcow2::Image &image, Progress &) {
        choose(image);
        // It does not change, and what is suspended may not be asked.
        if (size > image.header().size)
            backing = size_below(image, device);
        qcow2::check_growth(image, size, backing);
    };
    const auto pause = edit_target(args.image, judge, [&](qcow2::Image &image, Progress &progress) {
        if (device)
            choose(image);
        else
            judge(image, progress);
        qcow2::resize_image(image, size, shrink, backing, progress);
    });
    report(args.json, {{"virtual-size", size}}, pause);
    return status_done;
}

} // namespace

void add_resize(Command root)
{
    Command command = root.command("resize", "Change the size of the disk");
    command.footer("Example:\n  qcow2-maint resize vm1 +10G");
    const auto args = std::make_shared<Arguments>();
    command.add("IMAGE", args->image, target_help).required();
    command.add("SIZE", args->size, fmt::format("{}; +N and -N are from the present size on", byte_size_help))
        .check(why_no_size)
        .required();
    command.flag("--shrink", args->shrink, "allow a smaller size; what lies behind it is lost");
    command.flag("--json", args->json, "print the new size as JSON");
    command.action([args] { return resize(*args); });
}

} // namespace liveblk::maint
