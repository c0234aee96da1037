// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "image.hpp"
#include "progress.hpp"

#include <cstdint>
#include <optional>

namespace liveblk::qcow2 {

// Where the disk has its first compressed cluster. Reads every L2 table; what is damaged is passed over.
std::optional<std::uint64_t> first_compressed(const Image &image, Progress &progress);

} // namespace liveblk::qcow2
