// SPDX-License-Identifier: GPL-2.0-only
#include "target.hpp"

#include "maintenance_lock.hpp"
#include "text.hpp"

#include <fmt/format.h>

#include <cmath>

namespace liveblk::maint {

void edit_file(const std::string &path, const Work &work)
{
    UniqueFd fd = qcow2::open_image_file(path, true);
    const MaintenanceLock lock(fd.get(), path);
    Progress progress;
    qcow2::Image image(qcow2::ImageFile(path, qcow2::Access::read_write, std::move(fd)));
    work(image, progress);
}

std::optional<Pause> edit_target(const std::string &argument, const Work &judge, const Work &work)
{
    if (const auto device = find_live(argument))
        return with_suspended(*device, qcow2::Access::read_write, ImageState::sound, judge, work);
    edit_file(argument, work);
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
