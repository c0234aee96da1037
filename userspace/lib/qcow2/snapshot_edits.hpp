// SPDX-License-Identifier: GPL-2.0-only
// Edits of internal snapshots; each is one Edit, all or nothing. An image that was not closed cleanly is repaired
// first, unless the edit is refused.
#pragma once

#include "base/progress.hpp"
#include "qcow2/image.hpp"

#include <string>

namespace liveblk::qcow2 {

// Throws if a snapshot of the image cannot be called so.
void check_snapshot_name(const Image &image, const std::string &name);
// Returns the new snapshot's id.
std::string create_snapshot(Image &image, const std::string &name, Progress &progress);
void delete_snapshot(Image &image, const SnapshotKey &key, Progress &progress);
// The active disk becomes what it was; its size too.
void revert_to_snapshot(Image &image, const SnapshotKey &key, Progress &progress);
void rename_snapshot(Image &image, const SnapshotKey &key, const std::string &name, Progress &progress);

} // namespace liveblk::qcow2
