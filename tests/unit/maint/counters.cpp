// SPDX-License-Identifier: GPL-2.0-only
#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "qcow2/counters.hpp"

using liveblk::Error;
using liveblk::qcow2::Counters;

TEST_CASE("references add up, beyond 14 bits too")
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

TEST_CASE("metadata is counted once where it overlaps")
{
    Counters counters(100000);
    REQUIRE(counters.add_metadata(16000, 1000, 1));
    REQUIRE_FALSE(counters.add_metadata(16999, 3, 2));
    REQUIRE(counters.get(16999) == 1);
    REQUIRE(counters.get(17000) == 2);
    REQUIRE(counters.is_metadata(17001));
}

TEST_CASE("a refcount is as counted, but where a difference is marked")
{
    Counters counters(100000);
    counters.add(5, 2, 1);
    counters.mark_differs(6);
    counters.mark_differs(99999); // nothing refers to anything near it
    REQUIRE(counters.refcount_is_one(5));
    REQUIRE_FALSE(counters.refcount_is_one(6));
    REQUIRE(counters.get(6) == 1);
    REQUIRE_FALSE(counters.refcount_is_one(7));
}

TEST_CASE("widely spread references take no more memory than allowed")
{
    Counters counters(1 << 24, 10 * sizeof(Counters::Page));
    for (std::uint64_t i = 0; i < 10; i++)
        counters.add(i << 16, 1, 1);
    REQUIRE_THROWS_AS(counters.add(10 << 16, 1, 1), Error);
}
