// SPDX-License-Identifier: GPL-2.0-only
#include <catch2/catch.hpp>

#include "check.hpp"
#include "edit.hpp"
#include "error.hpp"
#include "tiny_image.hpp"

namespace {

using namespace liveblk;
using namespace liveblk::qcow2;
using unit::Scratch;
using unit::TinyImage;

CheckReport check(const Image &image)
{
    Progress progress;
    return Checker(image, progress).run();
}

} // namespace

TEST_CASE("an edit that is not committed changes no byte")
{
    Scratch scratch;
    const TinyImage tiny;
    const std::string path = tiny.save(scratch);
    const auto before = unit::file_bytes(path);
    {
        Image image(path, Access::read_write);
        Edit edit(image);
        edit.write_new(std::vector<std::byte>(10 << 20));
        edit.refcounts().increment(5, 1);
    }
    CHECK(unit::file_bytes(path) == before);
}

TEST_CASE("clusters that an edit frees are not given out by it")
{
    Scratch scratch;
    Image image(TinyImage().save(scratch), Access::read_write);
    Refcounts refcounts(image, Refcounts::Start::from_image);
    refcounts.decrement(6, 1);
    CHECK(refcounts.get(6) == 0);
    CHECK(refcounts.allocate(1) == 8);
    CHECK(refcounts.allocate(3) == 9);
    const auto freed = refcounts.freed();
    REQUIRE(freed.size() == 1);
    CHECK(freed[0].first == 6);
    CHECK(freed[0].count == 1);
}

TEST_CASE("an unchanged image that is committed is whole and has no leak")
{
    Scratch scratch;
    Image image(TinyImage().save(scratch), Access::read_write);
    {
        Edit edit(image);
        edit.refcounts().set(100, 1);
        edit.refcounts().set(100, 0);
        edit.commit();
        edit.give_back();
    }
    image.reload();
    CHECK(image.header().reftable_offset != TinyImage::cluster);
    CHECK(check(image).clean());
}

TEST_CASE("a reference to a cluster with refcount 0 is a contradiction")
{
    Scratch scratch;
    TinyImage tiny;
    tiny.set_refcount(6, 0);
    Image image(tiny.save(scratch), Access::read_write);
    Refcounts refcounts(image, Refcounts::Start::from_image);
    CHECK_THROWS_AS(refcounts.increment(6, 1), Error);
    CHECK_THROWS_AS(refcounts.decrement(6, 1), Error);
}

TEST_CASE("a full refcount is refused")
{
    Scratch scratch;
    TinyImage tiny;
    tiny.set_refcount(6, 65535);
    Image image(tiny.save(scratch), Access::read_write);
    Refcounts refcounts(image, Refcounts::Start::from_image);
    CHECK_THROWS_WITH(refcounts.increment(5, 3), Catch::Matchers::Contains("16 bits is full"));
}
