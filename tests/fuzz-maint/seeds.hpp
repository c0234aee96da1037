// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace liveblk::fuzz {

struct Seed {
    std::string name;
    std::vector<std::uint8_t> bytes;
};

// Small images, the same at every call: sound ones with every structure of the format, and all the broken ones that
// the kernel module is tested with.
std::vector<Seed> make_seeds();

} // namespace liveblk::fuzz
