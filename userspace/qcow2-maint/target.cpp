// SPDX-License-Identifier: GPL-2.0-only
#include "target.hpp"

#include "qcow2/maintenance_lock.hpp"
#include "text.hpp"

#include <fmt/core.h>

#include <cmath>

namespace liveblk::maint {

void edit_file(const std::string &path, const live::Work &work)
{
    UniqueFd fd = qcow2::open_image_file(path, true);
    const qcow2::MaintenanceLock lock(fd.get(), path);
    Progress progress;
    qcow2::Image image(qcow2::ImageFile(path, qcow2::Access::read_write, std::move(fd)));
    work(image, progress);
}

std::optional<live::Pause> edit_target(const std::string &argument, const live::Work &judge, const live::Work &work)
{
    if (const auto device = live::find(argument))
        return live::with_suspended(*device, qcow2::Access::read_write, live::ImageState::sound, judge, work);
    edit_file(argument, work);
    return std::nullopt;
}

void print_pause(const std::optional<live::Pause> &pause)
{
    if (pause)
        fmt::print("{} was paused for {:.1f} ms\n", pause->device, pause->milliseconds);
}

void add_pause(Json &json, const std::optional<live::Pause> &pause)
{
    if (!pause)
        return;
    json["device"] = pause->device;
    json["pause-ms"] = std::round(pause->milliseconds * 1000) / 1000;
}

void report(bool as_json, Json json, const std::optional<live::Pause> &pause)
{
    if (!as_json)
        return print_pause(pause);
    add_pause(json, pause);
    json.print();
}

} // namespace liveblk::maint
