// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

#include "base/error.hpp"
#include "base/json.hpp"
#include "base/kernel_module.hpp"
#include "base/privilege.hpp"
#include "live/session.hpp"
#include "qcow2/chain.hpp"
#include "qcow2/image.hpp"
#include "qcow2/image_lock.hpp"
#include "qcow2/maintenance_lock.hpp"
#include "text.hpp"

#include <fmt/core.h>

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>

namespace liveblk::maint {
namespace {

struct Arguments {
    std::string image;
    std::string name;
    std::string data_file;
    bool read_only = false;
    bool accept_loss = false;
    bool json = false;
};
using Shared = std::shared_ptr<Arguments>;

using Layers = std::vector<qcow2::Layer>;

// An image of the chain, the first or one below, and what it is called in a refusal.
struct Judged {
    const qcow2::Layer &layer;
    bool top;
    std::string subject; // "attach 'IMAGE': it"
};

// Why dm-qcow2 cannot take it, as far as that is not better said by the kernel.
void refuse_features(const qcow2::Header &h, const Judged &judged)
{
    // A table has no place for the data file of an image below.
    const std::uint64_t taken = qcow2::incompat_dirty | qcow2::incompat_corrupt | qcow2::incompat_compression |
                                qcow2::incompat_extended_l2 | (judged.top ? qcow2::incompat_data_file : 0);
    for (unsigned bit = 0; bit < 64; bit++)
        if (h.incompatible & ~taken & (1ULL << bit))
            not_supported("{} has the incompatible feature {} ({}), which dm-qcow2 does not support", judged.subject,
                          bit, h.feature_name(qcow2::FeatureKind::incompatible, bit));
    if (h.compression_type > QCOW2_COMPRESSION_ZSTD)
        not_supported("{} has the compression type {}, which dm-qcow2 does not support", judged.subject,
                      h.compression_type);
    if (h.crypt_method)
        not_supported("{} is encrypted, which dm-qcow2 does not support", judged.subject);
}

void refuse_unrepaired(const qcow2::Header &h, const Arguments &args)
{
    const std::string advice = fmt::format("'qcow2-maint check --repair all {}' repairs it, and --read-only attaches "
                                           "it as it is",
                                           args.image);
    if (h.incompatible & qcow2::incompat_corrupt)
        fail("attach '{}': it is marked corrupt, so that nothing may be written to it; {}", args.image, advice);
    if (h.incompatible & qcow2::incompat_dirty)
        fail("attach '{}': it was not closed cleanly and is marked dirty: its refcounts may be wrong; {}", args.image,
             advice);
}

// At once: what is opened has been printed.
void print_layer(const std::string &what, const qcow2::Layer &layer)
{
    fmt::print("{:<6} {}\n", what, qcow2::printable(layer.path));
    std::fflush(stdout);
}

Json layers_as_json(const Layers &layers)
{
    Json list = Json::array();
    for (const qcow2::Layer &layer : layers)
        list.push_back({{"filename", layer.path}, {"format", layer.format}});
    return list;
}

qcow2::Access access_to(const Arguments &args, bool top)
{
    return top && !args.read_only ? qcow2::Access::read_write : qcow2::Access::read_only;
}

using Data = std::optional<qcow2::Layer>;

// A header comes from whoever made the image, who may have named any file of the host for the guest to write to.
void require_beside(const Arguments &args, const qcow2::Layer &top, const qcow2::Layer &data)
{
    const std::filesystem::path path = data.path;
    if (path.parent_path() != std::filesystem::path(top.path).parent_path())
        fail("attach '{0}': by its header its data is in '{1}', which lies in another directory; if that is right, say "
             "so with --data-file '{1}'",
             args.image, qcow2::printable(data.path));
}

// Where the guest's data is, if that is not in the image.
Data open_data(const Arguments &args, const qcow2::Layer &top)
{
    if (!top.data) {
        if (!args.data_file.empty())
            fail("attach '{}': it has no external data file, so that '{}' cannot be it", args.image, args.data_file);
        return std::nullopt;
    }
    const bool named = !args.data_file.empty();
    return qcow2::open_data_file(top, named ? args.data_file : *top.data, !args.read_only,
                                 [&](const qcow2::Layer &data) {
                                     if (!named && !args.read_only)
                                         require_beside(args, top, data);
                                     if (!args.json)
                                         print_layer("data", data);
                                 });
}

[[noreturn]] void explain(const Error &error, const Arguments &args, const Layers &layers, const Data &data)
{
    if (!dm::has_target(dm::qcow2_target)) {
        const std::string why = load_module("dm-qcow2");
        fail("{}: the kernel has no target 'qcow2': {}", error.what(),
             why.empty() ? "its module, dm-qcow2, was not loaded; now it is" : why);
    }
    // Whoever has an image can be named here; the kernel names nobody.
    for (const qcow2::Layer &layer : layers)
        (void)qcow2::open_layer(layer, access_to(args, &layer == &layers.front()));
    if (data)
        (void)qcow2::open_layer(*data, access_to(args, true));
    fail("{}; the kernel log says more", error.what());
}

dm::Device create(const Arguments &args, const Layers &layers, const Data &data, std::uint64_t sectors)
{
    if (!may_administer())
        fail("attach '{}': {}", args.image, root_only);
    dm::Qcow2Table table;
    if (args.read_only)
        table.arguments.emplace_back("read_only");
    if (args.accept_loss)
        table.arguments.emplace_back("accept_loss");
    std::vector<int> backing;
    for (std::size_t i = 1; i < layers.size(); i++) {
        table.backing.push_back({.format = layers[i].format, .image = layers[i].path});
        backing.push_back(layers[i].fd.get());
    }
    if (data)
        table.data_file = data->path;
    const dm::Target target = table.with_fds(layers.front().fd.get(), backing, data ? data->fd.get() : -1, sectors);
    try {
        return dm::Device::create(args.name, target, args.read_only);
    } catch (const Error &e) {
        explain(e, args, layers, data);
    }
}

void print_attached(const Arguments &args, const dm::Device &device, std::uint64_t sectors, const Layers &layers,
                    const Data &data)
{
    if (!args.json)
        return fmt::print("{}\n", device.path());
    Json json = {{"device", device.name()},
                 {"path", device.path()},
                 {"sectors", sectors},
                 {"read-only", args.read_only},
                 {"chain", layers_as_json(layers)}};
    if (data)
        json["data-file"] = data->path;
    json.print();
}

Judged to_judge(const Arguments &args, const qcow2::Layer &layer, bool top)
{
    return {layer, top,
            fmt::format("attach '{}': {}", args.image,
                        top ? "it" : fmt::format("its backing file '{}'", qcow2::printable(layer.path)))};
}

// Whether dm-qcow2 can take it. With the lock of the image, which the kernel takes afterwards. Returns its size.
std::uint64_t judge(const Arguments &args, const Judged &judged)
{
    const qcow2::Layer &layer = judged.layer;
    qcow2::ImageFile file = qcow2::open_layer(layer, access_to(args, judged.top));
    if (layer.format != "qcow2")
        return file.size();
    const qcow2::Header header = qcow2::read_header(file);
    if (qcow2::backing_of(layer.name, header) != layer.below)
        fail("{} has got another backing file meanwhile", judged.subject);
    if (qcow2::data_file_of(header) != layer.data)
        fail("{} has got another data file meanwhile", judged.subject);
    refuse_features(header, judged);
    if (judged.top && !args.read_only)
        refuse_unrepaired(header, args);
    return header.size;
}

int attach(const Arguments &args)
{
    if (dm::Device::find(args.name))
        fail("attach '{}': there is a device '{}' already", args.image, args.name);
    const Layers layers = qcow2::open_chain(args.image, !args.read_only, [&args](const qcow2::Layer &layer) {
        if (!args.json)
            print_layer(layer.format, layer);
    });
    // The kernel opens what a descriptor stands for, not a path; what is printed is what it opens.
    const qcow2::Layer &top = layers.front();
    const qcow2::MaintenanceLock lock(top.fd.get(), top.path);
    const std::uint64_t size = judge(args, to_judge(args, top, true));
    for (std::size_t i = 1; i < layers.size(); i++)
        judge(args, to_judge(args, layers[i], false));
    // An edit that was killed may have freed what the device will write to, and its header be not durable.
    if (!args.read_only && ::fdatasync(top.fd.get()) < 0)
        fail_errno(fmt::format("make what was written to '{}' durable", args.image));
    const Data data = open_data(args, top);
    const std::uint64_t sectors = size / qcow2::sector_size;
    const dm::Device device = create(args, layers, data, sectors);
    print_attached(args, device, sectors, layers, data);
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
    const dm::Device device = live::require_device(args.name);
    const std::string image = image_of(device);
    UniqueFd fd;
    std::unique_ptr<qcow2::MaintenanceLock> lock;
    std::error_code error;
    // An image that is gone keeps nobody from detaching.
    if (!image.empty() && std::filesystem::exists(image, error)) {
        fd = qcow2::open_image_file(image, false);
        lock = std::make_unique<qcow2::MaintenanceLock>(fd.get(), image);
    }
    if (const int users = users_that_stay(device))
        fail("detach '{}': it is in use, {} times: mounted, open, or below another device", device.name(), users);
    device.remove();
    return status_done;
}

int resume(const Arguments &args)
{
    const dm::Device device = live::require_device(args.name);
    const live::Resumed result = live::complete_and_resume(device);
    if (args.json) {
        Json{{"device", device.name()},
             {"resumed", result != live::Resumed::was_not_suspended},
             {"new-table", result == live::Resumed::resumed_with_new_table}}
            .print();
        return status_done;
    }
    switch (result) {
    case live::Resumed::was_not_suspended:
        fmt::print("{} is not suspended\n", device.name());
        break;
    case live::Resumed::resumed:
        fmt::print("{} is resumed\n", device.name());
        break;
    case live::Resumed::resumed_with_new_table:
        fmt::print("{} is resumed with a new table\n", device.name());
        break;
    }
    return status_done;
}

Command add(Command root, const char *name, const char *text, const char *example)
{
    Command command = root.command(name, text);
    command.footer(fmt::format("Example:\n  qcow2-maint {}", example));
    return command;
}

} // namespace

void add_attach(Command root)
{
    const auto args = std::make_shared<Arguments>();
    Command command =
        add(root, "attach", "Make a block device out of an image and its backing files", "attach /srv/vm1.qcow2 vm1");
    command.add("IMAGE", args->image, "a QCOW2 image: a file or a block device").required();
    command.add("NAME", args->name, "of the device, /dev/mapper/NAME").required();
    command.add("--data-file", args->data_file,
                "its external data file, if it has another name or lies in another directory than the image");
    command.flag("--read-only", args->read_only, "never write to the image");
    command.flag("--accept-loss", args->accept_loss,
                 "go on from what is on disk, although a device lost changes that it could not write");
    command.flag("--json", args->json, "as JSON");
    command.action([args] { return attach(*args); });
}

void add_detach(Command root)
{
    const auto args = std::make_shared<Arguments>();
    Command command = add(root, "detach", "Remove a device; its image is complete and closed then", "detach vm1");
    command.add("NAME", args->name, "of the device, or its path").required();
    command.action([args] { return detach(*args); });
}

void add_resume(Command root)
{
    const auto args = std::make_shared<Arguments>();
    Command command =
        add(root, "resume", "Resume a suspended device, with the size that its image has now", "resume vm1");
    command.add("NAME", args->name, "of the device, or its path").required();
    command.flag("--json", args->json, "as JSON");
    command.action([args] { return resume(*args); });
}

} // namespace liveblk::maint
