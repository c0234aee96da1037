// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "snapshot_table.hpp"

#include <nlohmann/json.hpp>

#include <vector>

namespace liveblk::maint {

nlohmann::ordered_json snapshots_as_json(const std::vector<qcow2::Snapshot> &snapshots);
void print_snapshots(const std::vector<qcow2::Snapshot> &snapshots);

} // namespace liveblk::maint
