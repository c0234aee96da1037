// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

#include "image.hpp"
#include "progress.hpp"
#include "resize.hpp"
#include "size.hpp"

#include <memory>
#include <string>

namespace liveblk::maint {
namespace {

struct Arguments {
    std::string image;
    std::string size;
    bool shrink = false;
};

int resize(const Arguments &args)
{
    Progress progress;
    qcow2::Image image(args.image, qcow2::Access::read_write);
    const std::uint64_t size = parse_size(args.size).from(image.header().size);
    qcow2::resize_image(image, size, args.shrink ? qcow2::Shrink::allow : qcow2::Shrink::refuse, progress);
    return status_done;
}

} // namespace

void add_resize(CLI::App &app, Action &action)
{
    CLI::App *resize_app = app.add_subcommand("resize", "Change the size of the disk");
    resize_app->footer("Example:\n  qcow2-maint resize vm1.qcow2 +10G");
    const auto args = std::make_shared<Arguments>();
    resize_app->add_option("IMAGE", args->image, "a QCOW2 image: a file or a block device")->required();
    resize_app
        ->add_option("SIZE", args->size,
                     "in bytes or with a suffix K, M, G, T, P, E; +N and -N are from the present size on")
        ->check(why_no_size)
        ->required();
    resize_app->add_flag("--shrink", args->shrink, "allow a smaller size; what lies behind it is lost");
    resize_app->callback([args, &action] { action = [args] { return resize(*args); }; });
}

} // namespace liveblk::maint
