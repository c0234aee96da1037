// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

#include "byte_size.hpp"
#include "error.hpp"
#include "resize.hpp"
#include "size.hpp"
#include "target.hpp"

#include <memory>
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

int resize(const Arguments &args)
{
    const auto device = find_live(args.image);
    const auto shrink = args.shrink ? qcow2::Shrink::allow : qcow2::Shrink::refuse;
    std::uint64_t size = 0;
    const Work judge = [&](qcow2::Image &image, Progress &) {
        size = parse_size(args.size).from(image.header().size);
        qcow2::check_resize(image, size, shrink);
        if (device)
            refuse_to_shrink_in_use(*device, image.header().size, size);
    };
    const auto pause = edit_target(args.image, judge, [&](qcow2::Image &image, Progress &progress) {
        judge(image, progress);
        qcow2::resize_image(image, size, shrink, progress);
    });
    report(args.json, {{"virtual-size", size}}, pause);
    return status_done;
}

} // namespace

void add_resize(CLI::App &app, Action &action)
{
    CLI::App *resize_app = app.add_subcommand("resize", "Change the size of the disk");
    resize_app->footer("Example:\n  qcow2-maint resize vm1 +10G");
    const auto args = std::make_shared<Arguments>();
    resize_app->add_option("IMAGE", args->image, target_help)->required();
    resize_app
        ->add_option("SIZE", args->size, fmt::format("{}; +N and -N are from the present size on", byte_size_help))
        ->check(why_no_size)
        ->required();
    resize_app->add_flag("--shrink", args->shrink, "allow a smaller size; what lies behind it is lost");
    resize_app->add_flag("--json", args->json, "print the new size as JSON");
    resize_app->callback([args, &action] { action = [args] { return resize(*args); }; });
}

} // namespace liveblk::maint
