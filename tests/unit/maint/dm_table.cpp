// SPDX-License-Identifier: GPL-2.0-only
#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "dm/table.hpp"

using namespace liveblk;
using Words = std::vector<std::string>;

namespace {

std::vector<dm::Target> table(const std::string &params, const std::string &type = "qcow2")
{
    return {{.start = 0, .length = 2048, .type = type, .params = params}};
}

} // namespace

TEST_CASE("words of a table are apart at blanks without a backslash")
{
    CHECK(dm::split_words("").empty());
    CHECK(dm::split_words("  \t\n").empty());
    CHECK(dm::split_words(" /a  b ") == Words{"/a", "b"});
    CHECK(dm::split_words("/my\\ images/vm\\\\1 2 x y") == Words{"/my images/vm\\1", "2", "x", "y"});
    CHECK(dm::split_words("/a\\\tb\\\nc") == Words{"/a\tb\nc"});
    CHECK(dm::split_words("/a\\ ") == Words{"/a "});
    CHECK(dm::split_words("/a\\") == Words{"/a\\"});
    CHECK(dm::split_words("\\x") == Words{"x"});
}

TEST_CASE("a table is taken apart and put together again")
{
    const auto plain = dm::parse_qcow2(table("/srv/vm1.qcow2"), "vm1");
    CHECK(plain.sectors == 2048);
    CHECK(plain.image == "/srv/vm1.qcow2");
    CHECK(plain.arguments.empty());
    CHECK_FALSE(plain.read_only());
    CHECK(plain.with_fds(7, {}, -1, 4096).params == "fd:7");

    const auto full = dm::parse_qcow2(table("/my\\ images/vm1 3 read_only cache_kib 4096"), "vm1");
    CHECK(full.image == "/my images/vm1");
    CHECK(full.read_only());
    CHECK_FALSE(full.has("no_lock"));
    const dm::Target again = full.with_fds(7, {}, -1, 4096);
    CHECK(again.params == "fd:7 3 read_only cache_kib 4096");
    CHECK(again.length == 4096);
    CHECK(again.type == "qcow2");
}

TEST_CASE("images below are told from other arguments, and passed as descriptors")
{
    const auto chain = dm::parse_qcow2(
        table("/srv/top 9 read_only backing qcow2 /my\\ images/mid cache_kib 64 backing raw /dev/sdb"), "vm1");
    CHECK(chain.arguments == Words{"read_only", "cache_kib", "64"});
    REQUIRE(chain.backing.size() == 2);
    CHECK(chain.backing[0] == dm::Below{"qcow2", "/my images/mid"});
    CHECK(chain.backing[1] == dm::Below{"raw", "/dev/sdb"});
    CHECK(chain.with_fds(7, {9, 11}, -1, 8).params ==
          "fd:7 9 read_only cache_kib 64 backing qcow2 fd:9 backing raw fd:11");
    auto other = chain;
    CHECK(other == chain);
    other.backing[1].image = "/dev/sdc";
    CHECK_FALSE(other == chain);
}

TEST_CASE("with another image on top the present one is the nearest below, and what else there is stays")
{
    const auto chain = dm::parse_qcow2(table("/a 8 cache_kib 64 backing qcow2 /b backing raw /c"), "vm1");
    const auto under = chain.under("/my new");
    CHECK(under.image == "/my new");
    CHECK(under.sectors == chain.sectors);
    CHECK(under.arguments == Words{"cache_kib", "64"});
    CHECK(under.backing == std::vector<dm::Below>{{"qcow2", "/a"}, {"qcow2", "/b"}, {"raw", "/c"}});
    CHECK(dm::parse_qcow2(table("/a"), "vm1").under("/b").with_fds(3, {4}, -1, 8).params ==
          "fd:3 3 backing qcow2 fd:4");
}

TEST_CASE("a table that is not one of dm-qcow2 is refused")
{
    CHECK_THROWS_AS(dm::parse_qcow2({}, "vm1"), Error);
    CHECK_THROWS_AS(dm::parse_qcow2(table("/dev/sda 0", "linear"), "vm1"), Error);
    CHECK_THROWS_AS(dm::parse_qcow2(table(""), "vm1"), Error);
    CHECK_THROWS_AS(dm::parse_qcow2(table("relative"), "vm1"), Error);
    CHECK_THROWS_AS(dm::parse_qcow2(table("/a 2 read_only"), "vm1"), Error);
    CHECK_THROWS_AS(dm::parse_qcow2(table("/a read_only"), "vm1"), Error);
    CHECK_THROWS_AS(dm::parse_qcow2(table("/a 1 backing"), "vm1"), Error);
    CHECK_THROWS_AS(dm::parse_qcow2(table("/a 2 backing raw"), "vm1"), Error);
    CHECK_THROWS_AS(dm::parse_qcow2(table("/a 3 backing vmdk /b"), "vm1"), Error);
    CHECK_THROWS_AS(dm::parse_qcow2(table("/a 3 backing raw b"), "vm1"), Error);
    auto two = table("/a");
    two.push_back(two[0]);
    CHECK_THROWS_AS(dm::parse_qcow2(two, "vm1"), Error);
}

TEST_CASE("the external data file is told from other arguments, and passed as a descriptor")
{
    const auto external =
        dm::parse_qcow2(table("/srv/top 6 data_file /my\\ images/data read_only backing qcow2 /srv/base"), "vm1");
    CHECK(external.data_file == "/my images/data");
    CHECK(external.arguments == Words{"read_only"});
    CHECK(external.backing.size() == 1);
    CHECK(external.with_fds(7, {9}, 8, 64).params == "fd:7 6 read_only data_file fd:8 backing qcow2 fd:9");
    auto other = external;
    other.data_file = "/srv/data";
    CHECK_FALSE(other == external);
    CHECK_THROWS_AS(dm::parse_qcow2(table("/a 1 data_file"), "vm1"), Error);
    CHECK_THROWS_AS(dm::parse_qcow2(table("/a 2 data_file b"), "vm1"), Error);
}
