// SPDX-License-Identifier: GPL-2.0-only
#include <catch2/catch.hpp>

#include "error.hpp"
#include "size.hpp"

using liveblk::Error;
using liveblk::maint::parse_size;

TEST_CASE("sizes are absolute or relative, with suffixes of 1024")
{
    CHECK(parse_size("4096", 7) == 4096);
    CHECK(parse_size("2k", 7) == 2048);
    CHECK(parse_size("3MiB", 7) == 3 << 20);
    CHECK(parse_size("+1G", 512) == (1ULL << 30) + 512);
    CHECK(parse_size("-1K", 4096) == 3072);
}

TEST_CASE("what is no size is refused")
{
    for (const char *text : {"", "+", "x", "1x", "1Kx", "--1", "9999999999999999999", "16E", "-5"})
        CHECK_THROWS_AS(parse_size(text, 5), Error);
}
