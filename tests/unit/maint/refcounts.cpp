// SPDX-License-Identifier: GPL-2.0-only
#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "qcow2/check.hpp"
#include "qcow2/edit.hpp"
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

// Clusters 8 and 9 are free and hold something, 10 is free and a hole, 11 is in use.
std::string with_free_clusters(const Scratch &scratch, TinyImage tiny)
{
    tiny.set_refcount(11, 1);
    auto bytes = tiny.bytes();
    bytes.resize(10 * TinyImage::cluster, std::byte{7});
    const std::string path = scratch.file("free.qcow2");
    unit::write_file(path, bytes);
    Image image(path, Access::read_write);
    image.file().write(std::vector<std::byte>(TinyImage::cluster, std::byte{9}), 11 * TinyImage::cluster);
    return path;
}

TEST_CASE("free clusters inside of the file are given out as far as they are in reach")
{
    Scratch scratch;
    const Image image(with_free_clusters(scratch, TinyImage()), Access::read_only);
    Refcounts refcounts(image, Refcounts::Start::from_image);
    SECTION("none")
    {
        CHECK(refcounts.allocate(1) == 12);
        CHECK(refcounts.reused().empty());
    }
    SECTION("holes")
    {
        refcounts.reach(Reach::holes, {});
        CHECK(refcounts.allocate(2) == 12);
        CHECK(refcounts.allocate(1) == 10);
        CHECK(refcounts.allocate(1) == 14);
        REQUIRE(refcounts.reused().size() == 1);
        CHECK(refcounts.reused()[0].first == 10);
    }
    SECTION("all but what is reserved")
    {
        refcounts.reach(Reach::everywhere, {8});
        CHECK(refcounts.allocate(3) == 12);
        CHECK(refcounts.allocate(2) == 9);
        CHECK(refcounts.allocate(1) == 15);
    }
    SECTION("what is freed meanwhile is not")
    {
        refcounts.reach(Reach::everywhere, {});
        refcounts.decrement(7, 1);
        CHECK(refcounts.allocate(1) == 8);
    }
}

TEST_CASE("an edit that fails leaves holes where it found some")
{
    Scratch scratch;
    const std::string path = with_free_clusters(scratch, TinyImage());
    const auto before = unit::file_bytes(path);
    Image image(path, Access::read_write);
    const std::uint64_t space = image.file().host_bytes();
    {
        Edit edit(image);
        CHECK(edit.write_new(std::vector<std::byte>(100, std::byte{1})) == 10 * TinyImage::cluster);
        edit.write_new(std::vector<std::byte>(10 << 20, std::byte{1}));
    }
    CHECK(unit::file_bytes(path) == before);
    CHECK(image.file().host_bytes() == space);
    CHECK(image.file().is_hole(10 * TinyImage::cluster, TinyImage::cluster));
}

TEST_CASE("metadata that nothing counts is not written over")
{
    Scratch scratch;
    TinyImage tiny;
    // The L1 and the L2 table.
    tiny.set_refcount(3, 0);
    tiny.set_refcount(4, 0);
    Image image(tiny.save(scratch), Access::read_write);
    Edit edit(image);
    edit.all_in_use_is_counted();
    CHECK(edit.refcounts().allocate(1) == 8);
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
