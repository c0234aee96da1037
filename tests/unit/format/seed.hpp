// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdint>

namespace liveblk::unit {

// What the randomised tests start from: LIVEBLK_SEED, or 1.
std::uint64_t seed();

} // namespace liveblk::unit
