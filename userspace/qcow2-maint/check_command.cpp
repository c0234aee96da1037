// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

#include "base/error.hpp"
#include "qcow2/maintenance_lock.hpp"
#include "qcow2/repair.hpp"
#include "qcow2/warm.hpp"
#include "target.hpp"
#include "text.hpp"

#include <fmt/core.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>

namespace liveblk::maint {
namespace {

struct Arguments {
    std::string image;
    qcow2::Repair repair = qcow2::Repair::nothing;
    bool json = false;
};

struct Checked {
    qcow2::Image image;
    qcow2::RepairResult result;
    std::optional<live::Pause> pause;
};

const char *severity_name(qcow2::Severity severity)
{
    return severity == qcow2::Severity::leak ? "leak" : "corruption";
}

std::uint64_t fixed(std::uint64_t before, std::uint64_t after)
{
    return before > after ? before - after : 0;
}

int status_of(const qcow2::CheckReport &report)
{
    if (report.corruptions)
        return status_corrupt;
    return report.leaks ? status_leaks : status_done;
}

void print_as_json(const Checked &checked)
{
    const auto &[image, result, pause] = checked;
    const qcow2::CheckReport &r = result.left;
    Json json = {{"filename", image.path()},
                 {"format", "qcow2"},
                 {"check-errors", 0},
                 {"image-end-offset", r.image_end_offset},
                 {"corruptions", r.corruptions},
                 {"leaks", r.leaks},
                 {"corruptions-fixed", fixed(result.found.corruptions, r.corruptions)},
                 {"leaks-fixed", fixed(result.found.leaks, r.leaks)},
                 {"bytes-given-back", result.given_back},
                 {"total-clusters", r.total_clusters},
                 {"allocated-clusters", r.allocated_clusters},
                 {"fragmented-clusters", r.fragmented_clusters},
                 {"compressed-clusters", r.compressed_clusters}};
    Json findings = Json::array();
    for (const qcow2::Finding &f : result.found.findings)
        findings.push_back({{"severity", severity_name(f.severity)},
                            {"where", f.where},
                            {"what", f.what},
                            {"consequence", f.consequence}});
    json["findings"] = std::move(findings);
    add_pause(json, pause);
    json.print();
}

void print_findings(const qcow2::CheckReport &found)
{
    for (const qcow2::Finding &f : found.findings)
        fmt::print("{}: {}: {}; {}\n", severity_name(f.severity), f.where, f.what, f.consequence);
    const std::uint64_t all = found.leaks + found.corruptions;
    if (all > found.findings.size())
        fmt::print("... and {} more\n", all - found.findings.size());
}

void print_summary(const Checked &checked)
{
    const auto &[image, result, pause] = checked;
    const qcow2::CheckReport &r = result.left;
    print_findings(result.found);
    if (const auto n = fixed(result.found.leaks, r.leaks))
        fmt::print("repaired {} leaks\n", n);
    if (const auto n = fixed(result.found.corruptions, r.corruptions))
        fmt::print("repaired {} corruptions\n", n);
    if (result.given_back)
        fmt::print("gave {} back to the host\n", human_size(result.given_back));
    if (r.clean())
        fmt::print("{}: no errors\n", image.path());
    else
        fmt::print("{}: {} corruptions, {} leaked clusters\n", image.path(), r.corruptions, r.leaks);
    if (image.header().incompatible & qcow2::incompat_dirty)
        fmt::print("{}: it was not closed cleanly; it is repaired when it is next written to\n", image.path());
    if (image.header().incompatible & qcow2::incompat_corrupt)
        fmt::print("{}: it is marked corrupt, so it cannot be written to\n", image.path());
    fmt::print("{} of {} clusters allocated ({}), {} fragmented, {} compressed\n", r.allocated_clusters,
               r.total_clusters, percentage(r.allocated_clusters, r.total_clusters),
               percentage(r.fragmented_clusters, r.allocated_clusters),
               percentage(r.compressed_clusters, r.allocated_clusters));
    print_pause(pause);
}

Checked check_file(const Arguments &args)
{
    const bool repair = args.repair != qcow2::Repair::nothing;
    UniqueFd fd = qcow2::open_image_file(args.image, repair);
    std::optional<qcow2::MaintenanceLock> lock;
    if (repair)
        lock.emplace(fd.get(), args.image);
    Progress progress;
    const auto access = repair ? qcow2::Access::read_write : qcow2::Access::read_only;
    qcow2::Image image(qcow2::ImageFile(args.image, access, std::move(fd)));
    qcow2::RepairResult result = qcow2::check_and_repair(image, args.repair, progress);
    return {std::move(image), std::move(result), std::nullopt};
}

Checked check_live(const dm::Device &device, const Arguments &args)
{
    const auto access = args.repair != qcow2::Repair::nothing ? qcow2::Access::read_write : qcow2::Access::read_only;
    qcow2::RepairResult result;
    const live::Work warm = [](qcow2::Image &image, Progress &) { qcow2::warm_disk(image); };
    // A repair of everything is what is left for an image that was found corrupt in use.
    const auto state = args.repair == qcow2::Repair::all ? live::ImageState::any : live::ImageState::sound;
    const live::Pause pause =
        live::with_suspended(device, access, state, warm, [&](qcow2::Image &image, Progress &progress) {
            result = qcow2::check_and_repair(image, args.repair, progress);
        });
    return {live::read_beside(device), std::move(result), pause};
}

int check(const Arguments &args)
{
    const auto device = live::find(args.image);
    const Checked checked = device ? check_live(*device, args) : check_file(args);
    if (args.json)
        print_as_json(checked);
    else
        print_summary(checked);
    return status_of(checked.result.left);
}

int check_or_say_why_not(const Arguments &args)
{
    try {
        return check(args);
    } catch (const NotSupported &e) {
        fmt::print(stderr, "qcow2-maint: {}\n", e.what());
        return status_not_supported;
    }
}

} // namespace

void add_check(Command root)
{
    Command command = root.command("check", "Look for leaks and corruption, and repair them if asked to");
    command.usage_status(status_failed); // 2 says that an image is corrupt
    command.footer("Example:\n  qcow2-maint check --repair leaks vm1\n\n"
                   "Exit status: 0 clean, 1 could not be checked, 2 corrupt, 3 leaks, 63 not supported.");
    const auto args = std::make_shared<Arguments>();
    command.add("IMAGE", args->image, target_help).required();
    command
        .choice("--repair", args->repair, {{"leaks", qcow2::Repair::leaks}, {"all", qcow2::Repair::all}},
                "leaks: give back what is not in use; all: corruption too")
        .shown_as("leaks|all");
    command.flag("--json", args->json, "print the result as JSON");
    command.action([args] { return check_or_say_why_not(*args); });
}

} // namespace liveblk::maint
