// SPDX-License-Identifier: GPL-2.0-only
// How blk-copy reads its arguments.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>

#include "error.hpp"
#include "location.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>

using liveblk::copy::Location;
using liveblk::copy::parse_bytes;

TEST_CASE("bytes have suffixes that are powers of 1024")
{
    CHECK(parse_bytes("0") == 0);
    CHECK(parse_bytes("512") == 512);
    CHECK(parse_bytes("4k") == 4096);
    CHECK(parse_bytes("3M") == 3U << 20);
    CHECK(parse_bytes("2g") == std::uint64_t{2} << 30);
    CHECK(parse_bytes("1t") == std::uint64_t{1} << 40);
}

TEST_CASE("what is no number of bytes is refused")
{
    for (const char *text : {"", "k", "-1", "1.5m", "0x10", "4q", "4k4", " ", "99999999999999999999", "99999999t"}) {
        INFO(text);
        CHECK_THROWS_AS(parse_bytes(text), liveblk::Error);
    }
}

TEST_CASE("a location is a path, and an offset after the last colon")
{
    CHECK(Location::parse("/dev/none").path == "/dev/none");
    CHECK(Location::parse("/dev/none").offset == 0);
    CHECK(Location::parse("/dev/none:4k").path == "/dev/none");
    CHECK(Location::parse("/dev/none:4k").offset == 4096);
    CHECK(Location::parse("/dev/a:b:512").path == "/dev/a:b");
    CHECK_THROWS_AS(Location::parse("/dev/none:"), liveblk::Error);
    CHECK_THROWS_AS(Location::parse("/dev/none:x"), liveblk::Error);
}

TEST_CASE("a path that exists is taken as it is, colons included")
{
    std::string name = std::filesystem::temp_directory_path() / "blk-copy.XXXXXX";
    REQUIRE(::mkdtemp(name.data()));
    const std::string path = name + "/pci-0000:00:1f.2";
    std::ofstream(path).close();
    CHECK(Location::parse(path).path == path);
    CHECK(Location::parse(path + ":8k").path == path);
    CHECK(Location::parse(path + ":8k").offset == 8192);
    std::filesystem::remove_all(name);
}
