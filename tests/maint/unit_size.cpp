// SPDX-License-Identifier: GPL-2.0-only
#include <catch2/catch.hpp>

#include "error.hpp"
#include "size.hpp"

using liveblk::Error;
using liveblk::maint::parse_size;
using liveblk::maint::why_no_size;

namespace {

std::uint64_t size_from(const char *text, std::uint64_t present)
{
    return parse_size(text).from(present);
}

} // namespace

TEST_CASE("sizes are absolute or relative, with suffixes of 1024")
{
    CHECK(size_from("4096", 7) == 4096);
    CHECK(size_from("2k", 7) == 2048);
    CHECK(size_from("3MiB", 7) == 3 << 20);
    CHECK(size_from("+1G", 512) == (1ULL << 30) + 512);
    CHECK(size_from("-1K", 4096) == 3072);
}

TEST_CASE("what is no size is refused before anything is opened")
{
    for (const char *text : {"", "+", "x", "1x", "1Kx", "--1", "9999999999999999999", "99999999999999999999", "16E"}) {
        CHECK_THROWS_AS(parse_size(text), Error);
        CHECK(why_no_size(text) != "");
    }
    CHECK(why_no_size("-5") == "");
    CHECK_THROWS_AS(size_from("-5", 5), Error);
}
