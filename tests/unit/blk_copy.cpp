// SPDX-License-Identifier: GPL-2.0-only
// How blk-copy reads its arguments.
#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "location.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>

using liveblk::copy::Location;

TEST_CASE("a location is a path, and an offset after the last colon")
{
    CHECK(Location::parse("/dev/none").path == "/dev/none");
    CHECK(Location::parse("/dev/none").offset == 0);
    CHECK(Location::parse("/dev/none:4k").path == "/dev/none");
    CHECK(Location::parse("/dev/none:4k").offset == 4096);
    CHECK(Location::parse("/dev/a:b:512").path == "/dev/a:b");
    CHECK(Location::parse("/dev/none:0x1000").offset == 4096);
    CHECK(Location::parse("/dev/none:1.5G").offset == std::uint64_t{3} << 29);
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
