// SPDX-License-Identifier: GPL-2.0-only
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>

#include "seed.hpp"

#include <cstdlib>
#include <iostream>
#include <string>

namespace liveblk::unit {

std::uint64_t seed()
{
    static const std::uint64_t value = [] {
        const char *text = std::getenv("LIVEBLK_SEED");
        return text ? std::stoull(text) : 1;
    }();
    return value;
}

} // namespace liveblk::unit

int main(int argc, char **argv)
{
    try {
        std::cout << "seed: " << liveblk::unit::seed() << " (LIVEBLK_SEED)\n";
    } catch (const std::exception &e) {
        std::cerr << "LIVEBLK_SEED is not a number: " << e.what() << '\n';
        return 2;
    }
    return Catch::Session().run(argc, argv);
}
