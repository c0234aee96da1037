// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/json.hpp"
#include "qcow2/snapshot_table.hpp"

#include <vector>

namespace liveblk::maint {

Json snapshots_as_json(const std::vector<qcow2::Snapshot> &snapshots);
void print_snapshots(const std::vector<qcow2::Snapshot> &snapshots);

} // namespace liveblk::maint
