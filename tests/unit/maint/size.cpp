// SPDX-License-Identifier: GPL-2.0-only
#include <catch2/catch.hpp>

#include "base/byte_size.hpp"
#include "base/error.hpp"
#include "size.hpp"

using liveblk::Error;
using liveblk::parse_bytes;
using liveblk::maint::parse_size;
using liveblk::maint::why_no_size;

namespace {

std::uint64_t size_from(const char *text, std::uint64_t present)
{
    return parse_size(text).from(present);
}

} // namespace

TEST_CASE("numbers of bytes are read as qemu-img reads them")
{
    CHECK(parse_bytes("0") == 0);
    CHECK(parse_bytes("512") == 512);
    CHECK(parse_bytes("08") == 8);
    CHECK(parse_bytes("512b") == 512);
    CHECK(parse_bytes("4k") == 4096);
    CHECK(parse_bytes("3M") == 3U << 20);
    CHECK(parse_bytes("1TiB") == std::uint64_t{1} << 40);
    CHECK(parse_bytes("1.5G") == std::uint64_t{3} << 29);
    CHECK(parse_bytes("1.K") == 1024);
    CHECK(parse_bytes("1.0") == 1);
    CHECK(parse_bytes("0x6400000") == 100 << 20);
    CHECK(parse_bytes("0X1b") == 27);
    // The nearest byte.
    CHECK(parse_bytes("1.0001k") == 1024);
    CHECK(parse_bytes("1.0005k") == 1025);
    CHECK(parse_bytes("1.001k") == 1025);
    CHECK(parse_bytes("1.9999k") == 2048);
    CHECK(parse_bytes("0.0001k") == 0);
    CHECK(parse_bytes("1.33333333333333333333333333333333333333333333333333K") == 1365);
    // Up to the last one.
    CHECK(parse_bytes("9223372036854775807") == INT64_MAX);
    CHECK(parse_bytes("0x7fffffffffffffff") == INT64_MAX);
    CHECK(parse_bytes("7.5E") == std::uint64_t{15} << 59);
}

TEST_CASE("what is no number of bytes is refused")
{
    for (const char *text : {"",
                             "k",
                             "-1",
                             "+1",
                             " 1",
                             "1 ",
                             "x",
                             "0x",
                             "0x1k",
                             "0x1.8",
                             "1e3",
                             ".5k",
                             "1..5k",
                             "1.5",
                             "1.5b",
                             "1.5.k",
                             "4q",
                             "4k4",
                             "1KB",
                             "1bi",
                             "8E",
                             "7.9999999999999999999E",
                             "9223372036854775808",
                             "0x8000000000000000",
                             "99999999999999999999",
                             "0x10000000000000000",
                             "99999999t"}) {
        INFO(text);
        CHECK_THROWS_AS(parse_bytes(text), Error);
    }
}

TEST_CASE("sizes are absolute or relative, with suffixes of 1024")
{
    CHECK(size_from("4096", 7) == 4096);
    CHECK(size_from("2k", 7) == 2048);
    CHECK(size_from("3MiB", 7) == 3 << 20);
    CHECK(size_from("+1G", 512) == (1ULL << 30) + 512);
    CHECK(size_from("-1K", 4096) == 3072);
    CHECK(size_from("+0.5K", 512) == 1024);
    CHECK(size_from("-0x200", 4096) == 3584);
}

TEST_CASE("what is no size is refused before anything is opened")
{
    for (const char *text :
         {"", "+", "x", "++1", "-0x", "1x", "1Kx", "--1", "9999999999999999999", "99999999999999999999", "16E"}) {
        CHECK_THROWS_AS(parse_size(text), Error);
        CHECK(why_no_size(text) != "");
    }
    CHECK(why_no_size("-5") == "");
    CHECK_THROWS_AS(size_from("-5", 5), Error);
}
