// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

#include "base/error.hpp"
#include "bitmap_list.hpp"
#include "qcow2/backing.hpp"
#include "qcow2/chain.hpp"
#include "qcow2/check.hpp"
#include "snapshot_list.hpp"
#include "target.hpp"
#include "text.hpp"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace liveblk::maint {
namespace {

using qcow2::FeatureKind;

struct Arguments {
    std::string image;
    bool chain = false;
    bool json = false;
    bool force_share = false;

    qcow2::Access access() const { return force_share ? qcow2::Access::read_only_shared : qcow2::Access::read_only; }
};

// Of a live device, with the fields of its status that say how it is.
struct DeviceFacts {
    std::string name;
    std::string path;
    dm::Info info;
    bool read_only = false;
    std::string mode;
    std::uint64_t errors = 0;
    std::uint64_t no_space = 0;
};

DeviceFacts facts_of(const dm::Device &device)
{
    const std::vector<dm::Target> status = device.status();
    const auto words = dm::split_words(status.empty() ? "" : status[0].params);
    if (words.size() < 7)
        fail("read the status of '{}': it has only {} fields", device.name(), words.size());
    return {.name = device.name(),
            .path = device.path(),
            .info = device.info(),
            .read_only = dm::parse_qcow2(device.table(), device.name()).read_only(),
            .mode = words[0],
            .errors = std::stoull(words[5]),
            .no_space = std::stoull(words[6])};
}

Json facts_as_json(const DeviceFacts &d)
{
    return {{"name", d.name},           {"path", d.path},
            {"mode", d.mode},           {"suspended", d.info.suspended},
            {"read-only", d.read_only}, {"open-count", d.info.open_count},
            {"errors", d.errors},       {"no-space-errors", d.no_space}};
}

std::vector<std::string> features(const qcow2::Header &h, FeatureKind kind, std::uint64_t bits)
{
    std::vector<std::string> names;
    for (unsigned bit = 0; bit < 64; bit++)
        if (bits >> bit & 1)
            names.push_back(h.feature_name(kind, bit));
    return names;
}

// An image of which a part cannot be read has all else to be shown.
template <typename Read>
auto if_readable(const qcow2::Image &image, const char *doing, Read read) -> std::optional<decltype(read())>
{
    try {
        return read();
    } catch (const Error &e) {
        fmt::print(stderr, "qcow2-maint: {} '{}': {}\n", doing, image.path(), e.what());
        return std::nullopt;
    }
}

// Of an image that is being written to they are not known.
std::optional<qcow2::CheckReport> usage_of(const qcow2::Image &image, const Arguments &args)
{
    if (args.force_share)
        return std::nullopt;
    return if_readable(image, "count what is allocated in", [&image] {
        Progress progress;
        return qcow2::Checker(image, progress).run();
    });
}

std::vector<qcow2::Bitmap> bitmaps_of(const qcow2::Image &image)
{
    return if_readable(image, "list the bitmaps of", [&image] { return qcow2::read_bitmaps(image).bitmaps; })
        .value_or(std::vector<qcow2::Bitmap>());
}

std::string encryption(const qcow2::Header &h)
{
    switch (h.crypt_method) {
    case QCOW2_CRYPT_NONE:
        return "none";
    case QCOW2_CRYPT_AES:
        return "AES";
    case QCOW2_CRYPT_LUKS:
        return "LUKS";
    default:
        return fmt::format("unknown ({})", h.crypt_method);
    }
}

const char *compression(const qcow2::Header &h)
{
    return h.compression_type == QCOW2_COMPRESSION_ZLIB   ? "zlib"
           : h.compression_type == QCOW2_COMPRESSION_ZSTD ? "zstd"
                                                          : "unknown";
}

Json usage_as_json(const qcow2::CheckReport &r)
{
    return {{"total-clusters", r.total_clusters},
            {"allocated-clusters", r.allocated_clusters},
            {"compressed-clusters", r.compressed_clusters},
            {"zero-clusters", r.zero_clusters},
            {"fragmented-clusters", r.fragmented_clusters},
            {"shared-clusters", r.shared_clusters},
            {"image-end-offset", r.image_end_offset},
            {"leaks", r.leaks},
            {"corruptions", r.corruptions}};
}

struct Facts {
    qcow2::Image image;
    std::optional<qcow2::CheckReport> usage;
    std::optional<DeviceFacts> device;
};

Json as_json(const Facts &facts)
{
    const auto &[image, usage, device] = facts;
    const qcow2::Header &h = image.header();
    Json json = {{"filename", image.path()},         {"format", "qcow2"},
                 {"virtual-size", h.size},           {"actual-size", image.file().host_bytes()},
                 {"cluster-size", h.cluster_size()}, {"dirty-flag", (h.incompatible & qcow2::incompat_dirty) != 0}};
    if (!h.backing_file.empty())
        json["backing-filename"] = h.backing_file;
    if (const auto format = h.text_extension(qcow2::extension_backing_format))
        json["backing-filename-format"] = *format;
    if (const auto name = h.text_extension(qcow2::extension_data_file))
        json["data-file"] = *name;
    json["snapshots"] = snapshots_as_json(image.snapshots().snapshots);
    json["format-specific"] = {{"type", "qcow2"},
                               {"data",
                                {{"compat", h.version == 2 ? "0.10" : "1.1"},
                                 {"compression-type", compression(h)},
                                 {"lazy-refcounts", (h.compatible & qcow2::compat_lazy_refcounts) != 0},
                                 {"refcount-bits", 1U << h.refcount_order},
                                 {"corrupt", (h.incompatible & qcow2::incompat_corrupt) != 0},
                                 {"extended-l2", h.extended_l2()},
                                 {"encryption", encryption(h)}}}};
    if (h.has_data_file())
        json["format-specific"]["data"]["data-file-raw"] = (h.autoclear & qcow2::autoclear_raw_external) != 0;
    if (const auto bitmaps = bitmaps_of(image); !bitmaps.empty())
        json["format-specific"]["data"]["bitmaps"] = bitmaps_as_json(bitmaps);
    json["features"] = {{"incompatible", features(h, FeatureKind::incompatible, h.incompatible)},
                        {"compatible", features(h, FeatureKind::compatible, h.compatible)},
                        {"autoclear", features(h, FeatureKind::autoclear, h.autoclear)}};
    if (usage)
        json["usage"] = usage_as_json(*usage);
    if (device)
        json["device"] = facts_as_json(*device);
    return json;
}

void line(const char *name, const std::string &value)
{
    fmt::print("{:<20} {}\n", std::string(name) + ":", value);
}

void print_features(const qcow2::Header &h)
{
    const auto show = [&](const char *name, FeatureKind kind, std::uint64_t bits) {
        if (bits)
            line(name, fmt::format("{}", fmt::join(features(h, kind, bits), ", ")));
    };
    show("incompatible", FeatureKind::incompatible, h.incompatible);
    show("compatible", FeatureKind::compatible, h.compatible);
    show("autoclear", FeatureKind::autoclear, h.autoclear);
}

void print_usage(const qcow2::CheckReport &r)
{
    line("allocated", fmt::format("{} of {} clusters ({})", r.allocated_clusters, r.total_clusters,
                                  percentage(r.allocated_clusters, r.total_clusters)));
    line("shared", fmt::format("{} of those ({}), copied when written to", r.shared_clusters,
                               percentage(r.shared_clusters, r.allocated_clusters)));
    line("fragmented", percentage(r.fragmented_clusters, r.allocated_clusters));
    line("compressed", fmt::format("{} clusters", r.compressed_clusters));
    line("zero", fmt::format("{} clusters", r.zero_clusters));
    if (!r.clean())
        line("errors", fmt::format("{} corruptions, {} leaks; see 'qcow2-maint check'", r.corruptions, r.leaks));
}

void print_text(const Facts &facts)
{
    const auto &[image, usage, device] = facts;
    const qcow2::Header &h = image.header();
    line("image", image.path());
    if (device)
        line("device",
             fmt::format("{} ({}, open {} times, {} errors)", device->path,
                         device->info.suspended ? "suspended" : device->mode, device->info.open_count, device->errors));
    line("virtual size", fmt::format("{} ({} bytes)", human_size(h.size), h.size));
    line("on the host", human_size(image.file().host_bytes()));
    line("version", fmt::format("{} (compat {})", h.version, h.version == 2 ? "0.10" : "1.1"));
    line("cluster size", human_size(h.cluster_size()));
    line("refcounts", fmt::format("{} bits", 1U << h.refcount_order));
    line("encryption", encryption(h));
    line("compression", compression(h));
    if (!h.backing_file.empty())
        line("backing file",
             fmt::format("{} (format {})", qcow2::printable(h.backing_file),
                         qcow2::printable(h.text_extension(qcow2::extension_backing_format).value_or("not given"))));
    if (const auto name = h.text_extension(qcow2::extension_data_file))
        line("data file", qcow2::printable(*name));
    print_features(h);
    if (usage)
        print_usage(*usage);
    line("snapshots", std::to_string(h.nb_snapshots));
    if (h.nb_snapshots)
        print_snapshots(image.snapshots().snapshots);
    if (const auto bitmaps = bitmaps_of(image); !bitmaps.empty()) {
        line("bitmaps", std::to_string(bitmaps.size()));
        print_bitmaps(bitmaps);
    }
}

// Of a raw image nothing else is known.
void print_raw(const qcow2::ImageFile &file)
{
    const std::uint64_t size = qcow2::disk_size(file, "raw");
    line("image", qcow2::printable(file.path()));
    line("format", "raw");
    line("virtual size", fmt::format("{} ({} bytes)", human_size(size), size));
    line("on the host", human_size(file.host_bytes()));
}

Json raw_as_json(const qcow2::ImageFile &file)
{
    return {{"filename", file.path()},
            {"format", "raw"},
            {"virtual-size", qcow2::disk_size(file, "raw")},
            {"actual-size", file.host_bytes()},
            {"dirty-flag", false}};
}

Facts facts_of(qcow2::Image image, const Arguments &args)
{
    auto usage = usage_of(image, args);
    return {std::move(image), std::move(usage), std::nullopt};
}

// Beside a live device what is allocated changes all the time, and is not counted.
Facts facts_of(const Arguments &args)
{
    if (const auto device = live::find(args.image))
        return {live::read_beside(*device), std::nullopt, facts_of(*device)};
    return facts_of(qcow2::Image(args.image, args.access()), args);
}

// Those below the first. A live device has them by its table, whatever the headers say by now.
std::vector<qcow2::Layer> layers_below(const Arguments &args)
{
    if (const auto device = live::find(args.image))
        return live::layers_below(*device);
    auto layers = qcow2::open_chain(args.image, false, [](const qcow2::Layer &) {});
    layers.erase(layers.begin());
    return layers;
}

void print_below(const Arguments &args, const qcow2::Layer &layer)
{
    fmt::print("\n");
    qcow2::ImageFile file = qcow2::open_layer(layer, args.access());
    if (layer.format == "raw")
        print_raw(file);
    else
        print_text(facts_of(qcow2::Image(std::move(file)), args));
}

Json below_as_json(const Arguments &args, const qcow2::Layer &layer)
{
    qcow2::ImageFile file = qcow2::open_layer(layer, args.access());
    return layer.format == "raw" ? raw_as_json(file) : as_json(facts_of(qcow2::Image(std::move(file)), args));
}

int info(const Arguments &args)
{
    const auto layers = args.chain ? layers_below(args) : std::vector<qcow2::Layer>();
    const Facts facts = facts_of(args);
    if (args.json && args.chain) {
        Json list = Json::array();
        list.push_back(as_json(facts));
        for (const qcow2::Layer &layer : layers)
            list.push_back(below_as_json(args, layer));
        list.print();
    } else if (args.json) {
        as_json(facts).print();
    } else {
        print_text(facts);
        for (const qcow2::Layer &layer : layers)
            print_below(args, layer);
    }
    return status_done;
}

} // namespace

void add_info(Command root)
{
    Command command = root.command("info", "Show what an image is and what it holds");
    command.footer("Example:\n  qcow2-maint info --json vm1.qcow2");
    const auto args = std::make_shared<Arguments>();
    command.add("IMAGE", args->image, target_help).required();
    command.flag("--backing-chain", args->chain, "of its backing files too, nearest first");
    command.flag("--json", args->json, "as JSON; the names that qemu-img info has mean the same");
    command.flag("-U,--force-share", args->force_share, "also while a program has the image open for writing");
    command.action([args] { return info(*args); });
}

} // namespace liveblk::maint
