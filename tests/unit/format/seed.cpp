// SPDX-License-Identifier: GPL-2.0-only
#include "seed.hpp"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace liveblk::unit {
namespace {

std::uint64_t read_seed()
{
    const char *text = std::getenv("LIVEBLK_SEED");
    try {
        return text ? std::stoull(text) : 1;
    } catch (const std::exception &) {
        std::fprintf(stderr, "LIVEBLK_SEED is not a number: %s\n", text);
        std::exit(2);
    }
}

// Said before the first test: it repeats a run.
[[maybe_unused]] const int said = std::printf("seed: %llu (LIVEBLK_SEED)\n", static_cast<unsigned long long>(seed()));

} // namespace

std::uint64_t seed()
{
    static const std::uint64_t value = read_seed();
    return value;
}

} // namespace liveblk::unit
