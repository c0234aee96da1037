// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "qcow2/image.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace liveblk::qcow2 {

// Clusters in which the L1 tables, L2 tables and the snapshot table of an image lie, each once or more, whatever their
// refcounts are; nothing if they cannot be known, or only with more work than an edit is worth. Refcounts knows those
// of its own.
std::optional<std::vector<std::uint64_t>> metadata_places(const Image &image);

} // namespace liveblk::qcow2
