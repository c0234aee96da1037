// SPDX-License-Identifier: GPL-2.0-only
#include "target.hpp"

#include "maintenance_lock.hpp"
#include "repair.hpp"
#include "text.hpp"

#include <fmt/format.h>

#include <cmath>

namespace liveblk::maint {

std::optional<Pause> edit_target(const std::string &argument, const Work &judge, const Work &work)
{
    const Work repair_and_work = [&work](qcow2::Image &image, Progress &progress) {
        qcow2::make_consistent(image, progress);
        work(image, progress);
    };
    if (const auto device = find_live(argument))
        return with_suspended(*device, qcow2::Access::read_write, judge, repair_and_work);
    UniqueFd fd = qcow2::open_image_file(argument, true);
    const MaintenanceLock lock(fd.get(), argument);
    Progress progress;
    qcow2::Image image(qcow2::ImageFile(argument, qcow2::Access::read_write, std::move(fd)));
    repair_and_work(image, progress);
    return std::nullopt;
}

void print_pause(const std::optional<Pause> &pause)
{
    if (pause)
        fmt::print("{} was paused for {:.1f} ms\n", pause->device, pause->milliseconds);
}

void add_pause(nlohmann::ordered_json &json, const std::optional<Pause> &pause)
{
    if (!pause)
        return;
    json["device"] = pause->device;
    json["pause-ms"] = std::round(pause->milliseconds * 1000) / 1000;
}

void report(bool as_json, nlohmann::ordered_json json, const std::optional<Pause> &pause)
{
    if (!as_json)
        return print_pause(pause);
    add_pause(json, pause);
    print_json(json);
}

} // namespace liveblk::maint
