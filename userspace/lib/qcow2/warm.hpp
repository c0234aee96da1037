// SPDX-License-Identifier: GPL-2.0-only
// Reading into the host's page cache what an edit is going to read, while its device is still in use.
#pragma once

#include "qcow2/image.hpp"

#include <cstdint>
#include <span>

namespace liveblk::qcow2 {

// The L2 tables of an L1 table. What is not valid is left to the edit to refuse, and errors to its own read.
void warm_tables(const Image &image, std::span<const std::uint64_t> l1);

// The refcount blocks.
void warm_refcounts(const Image &image);

// All that stands for the disk as it is now: both of the above.
void warm_disk(const Image &image);

} // namespace liveblk::qcow2
