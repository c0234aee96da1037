// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

#include "chain.hpp"
#include "compressed.hpp"
#include "error.hpp"
#include "image.hpp"
#include "image_lock.hpp"
#include "kernel_module.hpp"
#include "live.hpp"
#include "maintenance_lock.hpp"
#include "privilege.hpp"
#include "progress.hpp"
#include "text.hpp"

#include <fmt/format.h>

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

namespace liveblk::maint {
namespace {

struct Arguments {
    std::string image;
    std::string name;
    bool read_only = false;
    bool accept_loss = false;
    bool chain = false;
    bool json = false;
};
using Shared = std::shared_ptr<Arguments>;

// Why dm-qcow2 cannot take it, as far as that is not better said by the kernel.
void refuse_backing(const qcow2::Header &h, const Arguments &args)
{
    if (h.backing_file.empty())
        return;
    not_supported("attach '{}': it has the backing file '{}', and dm-qcow2 does not support backing files yet{}",
                  args.image, qcow2::printable(h.backing_file),
                  args.chain ? "" : "; --backing-chain shows all that it needs");
}

void refuse_features(const qcow2::Header &h, const Arguments &args)
{
    constexpr std::uint64_t taken = qcow2::incompat_dirty | qcow2::incompat_corrupt;
    for (unsigned bit = 0; bit < 64; bit++)
        if (h.incompatible & ~taken & (1ULL << bit))
            not_supported("attach '{}': it has the incompatible feature {} ({}), which dm-qcow2 does not support",
                          args.image, bit, h.feature_name(qcow2::FeatureKind::incompatible, bit));
    if (h.crypt_method)
        not_supported("attach '{}': it is encrypted, which dm-qcow2 does not support", args.image);
}

void refuse_unrepaired(const qcow2::Header &h, const Arguments &args)
{
    if (args.read_only)
        return;
    const std::string advice = fmt::format("'qcow2-maint check --repair all {}' repairs it, and --read-only attaches "
                                           "it as it is",
                                           args.image);
    if (h.incompatible & qcow2::incompat_corrupt)
        fail("attach '{}': it is marked corrupt, so that nothing may be written to it; {}", args.image, advice);
    if (h.incompatible & qcow2::incompat_dirty)
        fail("attach '{}': it was not closed cleanly and is marked dirty: its refcounts may be wrong; {}", args.image,
             advice);
}

std::optional<std::uint64_t> compressed_if_known(qcow2::ImageFile file)
{
    Progress progress;
    try {
        return qcow2::first_compressed(qcow2::Image(std::move(file)), progress);
    } catch (const Error &) {
        return std::nullopt; // what is damaged is for the kernel to judge
    }
}

// The kernel finds out when a cluster is read: to look at all mappings is more than attaching may cost there.
void refuse_compressed(const Arguments &args, std::optional<std::uint64_t> first)
{
    if (!first)
        return;
    const std::string what = fmt::format("attach '{}': it has compressed clusters, the first at {:#x} of the disk, "
                                         "which dm-qcow2 cannot read",
                                         args.image, *first);
    if (!args.read_only)
        not_supported("{}; 'qemu-img convert -O qcow2' makes a copy without them, and --read-only attaches it "
                      "nevertheless",
                      what);
    fmt::print(stderr, "qcow2-maint: {}: they give I/O errors\n", what);
}

// At once: what is opened has been printed.
void print_layer(const Layer &layer)
{
    fmt::print("{:<6} {}\n", layer.format, qcow2::printable(layer.path));
    std::fflush(stdout);
}

nlohmann::ordered_json layers_as_json(const std::vector<Layer> &layers)
{
    auto list = nlohmann::ordered_json::array();
    for (const Layer &layer : layers)
        list.push_back({{"filename", layer.path}, {"format", layer.format}});
    return list;
}

[[noreturn]] void explain(const Error &error, const Arguments &args, const std::string &path)
{
    if (!dm::has_target(dm::qcow2_target)) {
        const std::string why = load_module("dm-qcow2");
        fail("{}: the kernel has no target 'qcow2': {}", error.what(),
             why.empty() ? "its module, dm-qcow2, was not loaded; now it is" : why);
    }
    // Whoever has the image can be named here; the kernel names nobody.
    const qcow2::ImageFile file(path, args.read_only ? qcow2::Access::read_only : qcow2::Access::read_write);
    fail("{}; the kernel log says more", error.what());
}

dm::Device create(const Arguments &args, const std::string &path, int fd, std::uint64_t sectors)
{
    if (!may_administer())
        fail("attach '{}': {}", args.image, root_only);
    dm::Qcow2Table table;
    if (args.read_only)
        table.arguments.emplace_back("read_only");
    if (args.accept_loss)
        table.arguments.emplace_back("accept_loss");
    try {
        return dm::Device::create(args.name, table.with_fd(fd, sectors), args.read_only);
    } catch (const Error &e) {
        explain(e, args, path);
    }
}

void print_attached(const Arguments &args, const dm::Device &device, std::uint64_t sectors,
                    const std::vector<Layer> &layers)
{
    if (!args.json)
        return fmt::print("{}\n", device.path());
    print_json({{"device", device.name()},
                {"path", device.path()},
                {"sectors", sectors},
                {"read-only", args.read_only},
                {"chain", layers_as_json(layers)}});
}

// Whether dm-qcow2 can take it. With the lock of the image, which the kernel takes afterwards.
qcow2::Header judge(const Arguments &args, const std::string &path, int fd, const std::vector<Layer> &layers)
{
    const auto access = args.read_only ? qcow2::Access::read_only : qcow2::Access::read_write;
    qcow2::ImageFile file(path, access, qcow2::open_image_file(fmt::format("/proc/self/fd/{}", fd), !args.read_only));
    qcow2::Header header = qcow2::read_header(file);
    if (args.json && !header.backing_file.empty())
        print_json({{"chain", layers_as_json(layers)}});
    refuse_backing(header, args);
    refuse_features(header, args);
    refuse_unrepaired(header, args);
    refuse_compressed(args, compressed_if_known(std::move(file)));
    return header;
}

int attach(const Arguments &args)
{
    std::error_code error;
    const std::string path = std::filesystem::canonical(args.image, error);
    if (error)
        fail("attach '{}': {}", args.image, error.message());
    if (dm::Device::find(args.name))
        fail("attach '{}': there is a device '{}' already", args.image, args.name);
    const auto announce = [&args](const Layer &layer) {
        if (!args.json)
            print_layer(layer);
    };
    std::vector<Layer> layers = {{path, "qcow2"}};
    if (args.chain)
        layers = backing_chain(path, announce);
    else
        announce(layers.front());
    // The kernel opens what this stands for, not a path; what is printed is what it opens.
    const UniqueFd fd = qcow2::open_image_file(path, !args.read_only);
    if (std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", fd.get()), error) != path)
        fail("attach '{}': another file has taken the place of '{}'", args.image, path);
    const MaintenanceLock lock(fd.get(), path);
    const qcow2::Header header = judge(args, path, fd.get(), layers);
    // An edit that was killed may have freed what the device will write to, and its header be not durable.
    if (!args.read_only && ::fdatasync(fd.get()) < 0)
        fail_errno(fmt::format("make what was written to '{}' durable", args.image));
    const std::uint64_t sectors = header.size / qcow2::sector_size;
    const dm::Device device = create(args, path, fd.get(), sectors);
    print_attached(args, device, sectors, layers);
    return status_done;
}

// A device that attach was killed at has no table, or one that is not live.
std::string image_of(const dm::Device &device)
{
    const dm::Info info = device.info();
    if (!info.live_table && !info.inactive_table)
        return {};
    return dm::parse_qcow2(info.live_table ? device.table() : device.inactive_table(), device.name()).image;
}

// Others than udev, which looks at a device whenever somebody has closed it.
int users_that_stay(const dm::Device &device)
{
    int users = 0;
    for (int tries = 0; tries < 10 && (users = device.info().open_count); tries++)
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return users;
}

int detach(const Arguments &args)
{
    const dm::Device device = require_device(args.name);
    const std::string image = image_of(device);
    UniqueFd fd;
    std::unique_ptr<MaintenanceLock> lock;
    std::error_code error;
    // An image that is gone keeps nobody from detaching.
    if (!image.empty() && std::filesystem::exists(image, error)) {
        fd = qcow2::open_image_file(image, false);
        lock = std::make_unique<MaintenanceLock>(fd.get(), image);
    }
    if (const int users = users_that_stay(device))
        fail("detach '{}': it is in use, {} times: mounted, open, or below another device", device.name(), users);
    device.remove();
    return status_done;
}

int resume(const Arguments &args)
{
    const dm::Device device = require_device(args.name);
    const Resumed result = complete_and_resume(device);
    if (args.json) {
        print_json({{"device", device.name()},
                    {"resumed", result != Resumed::was_not_suspended},
                    {"new-table", result == Resumed::resumed_with_new_table}});
        return status_done;
    }
    switch (result) {
    case Resumed::was_not_suspended:
        fmt::print("{} is not suspended\n", device.name());
        break;
    case Resumed::resumed:
        fmt::print("{} is resumed\n", device.name());
        break;
    case Resumed::resumed_with_new_table:
        fmt::print("{} is resumed with a new table\n", device.name());
        break;
    }
    return status_done;
}

CLI::App *add(CLI::App &app, const char *name, const char *text, const char *example)
{
    CLI::App *sub = app.add_subcommand(name, text);
    sub->footer(fmt::format("Example:\n  qcow2-maint {}", example));
    return sub;
}

} // namespace

void add_attach(CLI::App &app, Action &action)
{
    const auto args = std::make_shared<Arguments>();
    CLI::App *sub = add(app, "attach", "Make a block device out of an image", "attach /srv/vm1.qcow2 vm1");
    sub->add_option("IMAGE", args->image, "a QCOW2 image: a file or a block device")->required();
    sub->add_option("NAME", args->name, "of the device, /dev/mapper/NAME")->required();
    sub->add_flag("--read-only", args->read_only, "never write to the image");
    sub->add_flag("--accept-loss", args->accept_loss,
                  "go on from what is on disk, although a device lost changes that it could not write");
    sub->add_flag("--backing-chain", args->chain,
                  "open and print its backing files too; dm-qcow2 cannot take them yet");
    sub->add_flag("--json", args->json, "as JSON");
    sub->callback([args, &action] { action = [args] { return attach(*args); }; });
}

void add_detach(CLI::App &app, Action &action)
{
    const auto args = std::make_shared<Arguments>();
    CLI::App *sub = add(app, "detach", "Remove a device; its image is complete and closed then", "detach vm1");
    sub->add_option("NAME", args->name, "of the device, or its path")->required();
    sub->callback([args, &action] { action = [args] { return detach(*args); }; });
}

void add_resume(CLI::App &app, Action &action)
{
    const auto args = std::make_shared<Arguments>();
    CLI::App *sub = add(app, "resume", "Resume a suspended device, with the size that its image has now", "resume vm1");
    sub->add_option("NAME", args->name, "of the device, or its path")->required();
    sub->add_flag("--json", args->json, "as JSON");
    sub->callback([args, &action] { action = [args] { return resume(*args); }; });
}

} // namespace liveblk::maint
