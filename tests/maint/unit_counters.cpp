// SPDX-License-Identifier: GPL-2.0-only
#include <catch2/catch.hpp>

#include "counters.hpp"
#include "error.hpp"

using liveblk::Error;
using liveblk::qcow2::Counters;

TEST_CASE("references add up, beyond 15 bits too")
{
    Counters counters(100000);
    counters.add(10, 50000, 1);
    counters.add(20, 1, 40000);
    counters.add(20, 1, 100000);
    REQUIRE(counters.get(9) == 0);
    REQUIRE(counters.get(10) == 1);
    REQUIRE(counters.get(20) == 140001);
    REQUIRE(counters.get(50009) == 1);
    REQUIRE(counters.get(50010) == 0);
}

TEST_CASE("data in a cluster of metadata is noticed, and the mark is no part of the count")
{
    Counters counters(100000);
    REQUIRE_FALSE(counters.add(16383, 2, 1));
    counters.mark_metadata(16384);
    REQUIRE(counters.get(16384) == 1);
    REQUIRE(counters.is_metadata(16384));
    REQUIRE_FALSE(counters.add(16383, 1, 1));
    REQUIRE(counters.add(16380, 10, 1));
    REQUIRE(counters.get(16384) == 2);
}

TEST_CASE("a file with too many clusters is refused before memory is asked for")
{
    REQUIRE_THROWS_AS(Counters(1ULL << 54), Error);
}
