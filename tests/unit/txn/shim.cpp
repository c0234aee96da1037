// SPDX-License-Identifier: GPL-2.0-only
// That the kernel shim sees what it is to see.
#include "shim_misuse.h"
#include "sim.h"

#include <catch2/catch.hpp>

TEST_CASE("the shim lets proper use pass, whatever the order")
{
    for (std::uint64_t seed = 0; seed < 50; seed++) {
        const sim_config config{seed, false, seed % 2 == 0, 0};
        sim_reset(&config);
        CHECK(sim_run(proper_use, nullptr));
        CHECK(sim_nothing_left());
        CHECK(std::string(sim_failure()).empty());
    }
}

TEST_CASE("the shim fails whoever does what must not be done")
{
    for (const misuse *m = misuses; m->name; m++) {
        for (std::uint64_t seed = 0; seed < 5; seed++) {
            const sim_config config{seed, false, false, 0};
            sim_reset(&config);
            INFO(m->name);
            CHECK_FALSE(sim_run(m->task, nullptr));
            CHECK_THAT(sim_failure(), Catch::Contains(m->says));
        }
    }
}
