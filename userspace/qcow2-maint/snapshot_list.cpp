// SPDX-License-Identifier: GPL-2.0-only
#include "snapshot_list.hpp"

#include "qcow2/header.hpp"
#include "text.hpp"

#include <fmt/core.h>

namespace liveblk::maint {
namespace {

constexpr std::uint64_t nanoseconds = 1'000'000'000;

} // namespace

Json snapshots_as_json(const std::vector<qcow2::Snapshot> &snapshots)
{
    Json list = Json::array();
    for (const qcow2::Snapshot &s : snapshots) {
        Json one = {{"id", s.id},
                    {"name", s.name},
                    {"vm-state-size", s.vm_state_size()},
                    {"date-sec", s.date_sec},
                    {"date-nsec", s.date_nsec},
                    {"vm-clock-sec", s.vm_clock_nsec / nanoseconds},
                    {"vm-clock-nsec", s.vm_clock_nsec % nanoseconds}};
        if (const auto size = s.disk_size())
            one["virtual-size"] = *size;
        list.push_back(std::move(one));
    }
    return list;
}

void print_snapshots(const std::vector<qcow2::Snapshot> &snapshots)
{
    fmt::print("{:<8} {:<30} {:<19} {:>10} {:>10}\n", "ID", "NAME", "DATE", "DISK", "VM STATE");
    for (const qcow2::Snapshot &s : snapshots) {
        const auto size = s.disk_size();
        fmt::print("{:<8} {:<30} {:<19} {:>10} {:>10}\n", qcow2::printable(s.id), qcow2::printable(s.name),
                   human_date(s.date_sec), size ? human_size(*size) : "-", human_size(s.vm_state_size()));
    }
}

} // namespace liveblk::maint
