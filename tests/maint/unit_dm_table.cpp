// SPDX-License-Identifier: GPL-2.0-only
#include <catch2/catch.hpp>

#include "dm_table.hpp"
#include "error.hpp"

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
    CHECK(plain.with_fd(7, 4096).params == "fd:7");

    const auto full = dm::parse_qcow2(table("/my\\ images/vm1 3 read_only cache_kib 4096"), "vm1");
    CHECK(full.image == "/my images/vm1");
    CHECK(full.read_only());
    CHECK_FALSE(full.has("no_lock"));
    const dm::Target again = full.with_fd(7, 4096);
    CHECK(again.params == "fd:7 3 read_only cache_kib 4096");
    CHECK(again.length == 4096);
    CHECK(again.type == "qcow2");
}

TEST_CASE("a table that is not one of dm-qcow2 is refused")
{
    CHECK_THROWS_AS(dm::parse_qcow2({}, "vm1"), Error);
    CHECK_THROWS_AS(dm::parse_qcow2(table("/dev/sda 0", "linear"), "vm1"), Error);
    CHECK_THROWS_AS(dm::parse_qcow2(table(""), "vm1"), Error);
    CHECK_THROWS_AS(dm::parse_qcow2(table("relative"), "vm1"), Error);
    CHECK_THROWS_AS(dm::parse_qcow2(table("/a 2 read_only"), "vm1"), Error);
    CHECK_THROWS_AS(dm::parse_qcow2(table("/a read_only"), "vm1"), Error);
    auto two = table("/a");
    two.push_back(two[0]);
    CHECK_THROWS_AS(dm::parse_qcow2(two, "vm1"), Error);
}
