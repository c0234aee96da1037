// SPDX-License-Identifier: GPL-2.0-only
#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "qcow2/edit.hpp"
#include "qcow2/repair.hpp"
#include "qcow2/resize.hpp"
#include "qcow2/snapshot_edits.hpp"
#include "random.hpp"
#include "tiny_image.hpp"

#include <functional>
#include <sys/stat.h>

namespace {

using namespace liveblk;
using namespace liveblk::qcow2;
using Catch::Matchers::Contains;
using unit::Scratch;
using unit::TinyImage;

CheckReport check(const std::string &path)
{
    Progress progress;
    const Image image(path, Access::read_only);
    return Checker(image, progress).run();
}

CheckReport repaired(const std::string &path, Repair repair)
{
    Progress progress;
    Image image(path, Access::read_write);
    check_and_repair(image, repair, progress);
    return Checker(image, progress).run();
}

// As if a program had lost references to a cluster.
void return_refcount_to_one(Image &image, std::uint64_t cluster)
{
    const std::uint64_t block = read_table(image.file(), image.header().reftable_offset, 1)[0];
    std::vector<std::byte> bytes(image.header().cluster_size());
    image.file().read(bytes, block);
    REQUIRE(refcount_get(bytes, cluster, 4) > 1);
    refcount_set(bytes, cluster, 4, 1);
    image.file().write(bytes, block);
}

CheckReport checked(const TinyImage &tiny)
{
    Scratch scratch;
    return check(tiny.save(scratch));
}

} // namespace

TEST_CASE("a sound image has no findings")
{
    const CheckReport r = checked(TinyImage());
    CHECK(r.clean());
    CHECK(r.allocated_clusters == 3);
    CHECK(r.total_clusters == 8);
    CHECK(r.image_end_offset == 8 * TinyImage::cluster);
}

TEST_CASE("each kind of damage is found")
{
    TinyImage tiny;
    SECTION("leak")
    {
        tiny.set_l2(2, 0);
        CHECK(checked(tiny).leaks == 1);
        CHECK(checked(tiny).corruptions == 0);
    }
    SECTION("refcount too low")
    {
        tiny.set_refcount(6, 0);
        CHECK(checked(tiny).refcount_corruptions == 1);
    }
    SECTION("flag")
    {
        tiny.set_l2(1, 6 * TinyImage::cluster);
        CHECK(checked(tiny).corruptions == 1);
        CHECK(checked(tiny).structural == 0);
    }
    SECTION("data in metadata")
    {
        tiny.set_l2(1, 2 * TinyImage::cluster);
        CHECK(checked(tiny).structural == 1);
    }
    SECTION("past the end")
    {
        tiny.set_l2(1, 800 * TinyImage::cluster);
        CHECK(checked(tiny).structural == 1);
    }
    SECTION("L2 table that is the header")
    {
        tiny.put(3 * TinyImage::cluster, flag_copied);
        CHECK(checked(tiny).structural == 1);
    }
    SECTION("refcount block outside")
    {
        tiny.put(TinyImage::cluster, 800 * TinyImage::cluster);
        CHECK(checked(tiny).corruptions > 0);
    }
}

TEST_CASE("a repair leaves a clean image, and leaks are left alone where there is corruption")
{
    Scratch scratch;
    TinyImage tiny;
    tiny.set_refcount(6, 0);
    tiny.set_refcount(7, 4);
    tiny.header.incompatible_features = incompat_dirty | incompat_corrupt;
    const std::string path = tiny.save(scratch);
    // What looks free may be in use.
    CHECK_THROWS_WITH(repaired(path, Repair::leaks), Contains("other damage"));
    CHECK(check(path).leaks == 1);
    CHECK(check(path).corruptions > 0);
    CHECK(repaired(path, Repair::all).clean());
    CHECK(Image(path, Access::read_only).header().incompatible == 0);
}

TEST_CASE("refcounts that cannot be read at all are counted anew")
{
    Scratch scratch;
    TinyImage tiny;
    tiny.put(TinyImage::cluster, 800 * TinyImage::cluster);
    tiny.put(TinyImage::cluster + 8, 5 * TinyImage::cluster);
    const std::string path = tiny.save(scratch);
    CHECK(repaired(path, Repair::all).clean());
}

TEST_CASE("an edit repairs what was not closed cleanly first, and refuses what is corrupt")
{
    Scratch scratch;
    TinyImage tiny;
    Progress progress;
    tiny.set_refcount(6, 0);
    tiny.header.incompatible_features = incompat_dirty;
    {
        Image image(tiny.save(scratch), Access::read_write);
        make_consistent(image, progress);
        create_snapshot(image, "one", progress);
    }
    CHECK(check(scratch.file("tiny.qcow2")).clean());
    tiny.header.incompatible_features = incompat_corrupt;
    Image image(tiny.save(scratch), Access::read_write);
    CHECK_THROWS_WITH(make_consistent(image, progress), Contains("marked corrupt"));
}

TEST_CASE("two users exclude each other, readers do not")
{
    Scratch scratch;
    const std::string path = TinyImage().save(scratch);
    const Image reader(path, Access::read_only);
    CHECK_NOTHROW(Image(path, Access::read_only));
    CHECK_THROWS_WITH(Image(path, Access::read_write), Contains("in use"));
    CHECK_NOTHROW(Image(path, Access::read_only_shared));
}

TEST_CASE("what is no image is refused with its name")
{
    Scratch scratch;
    const std::string path = scratch.file("file");
    unit::write_file(path, {});
    CHECK_THROWS_WITH(Image(path, Access::read_only), Contains("not a QCOW2 image") && Contains(path));
    CHECK_THROWS_WITH(Image(scratch.file("none"), Access::read_only), Contains("No such file"));
    REQUIRE(::mkfifo(scratch.file("pipe").c_str(), 0600) == 0);
    CHECK_THROWS_WITH(Image(scratch.file("pipe"), Access::read_only), Contains("neither a regular file"));
}

TEST_CASE("edits refuse what they cannot do, with nothing changed")
{
    Scratch scratch;
    TinyImage tiny;
    Progress progress;
    std::function<void(Image &)> edit = [&](Image &image) { create_snapshot(image, "one", progress); };
    SECTION("an entry outside")
    {
        tiny.set_l2(1, 800 * TinyImage::cluster);
    }
    SECTION("a cluster that is not counted")
    {
        tiny.set_refcount(6, 0);
    }
    SECTION("an unknown feature")
    {
        tiny.header.incompatible_features = 1ULL << 40;
    }
    SECTION("encryption")
    {
        tiny.header.crypt_method = 2;
    }
    SECTION("a smaller size")
    {
        edit = [&](Image &image) { resize_image(image, 4096, Shrink::refuse, 0, progress); };
    }
    const std::string path = tiny.save(scratch);
    const auto before = unit::file_bytes(path);
    {
        Image image(path, Access::read_write);
        CHECK_THROWS_AS(edit(image), Error);
    }
    CHECK(unit::file_bytes(path) == before);
}

TEST_CASE("an edit that is refused does not repair before")
{
    Scratch scratch;
    TinyImage tiny;
    tiny.set_refcount(6, 0);
    tiny.header.incompatible_features = incompat_dirty;
    tiny.header.compatible_features = compat_lazy_refcounts;
    const std::string path = tiny.save(scratch);
    const auto before = unit::file_bytes(path);
    Progress progress;
    {
        Image image(path, Access::read_write);
        CHECK_THROWS_AS(create_snapshot(image, "", progress), Error);
        CHECK_THROWS_AS(delete_snapshot(image, "none", progress), Error);
        CHECK_THROWS_AS(revert_to_snapshot(image, "none", progress), Error);
        CHECK_THROWS_AS(rename_snapshot(image, "none", "other", progress), Error);
        CHECK_THROWS_AS(resize_image(image, 4096, Shrink::refuse, 0, progress), Error);
        CHECK_THROWS_AS(resize_image(image, 1000, Shrink::allow, 0, progress), Error);
    }
    CHECK(unit::file_bytes(path) == before);
}

TEST_CASE("an edit that fails on an image that it had to repair says that it was repaired")
{
    Scratch scratch;
    TinyImage tiny;
    tiny.header.refcount_order = 0; // no room for a second reference
    tiny.header.incompatible_features = incompat_dirty;
    tiny.put(2 * TinyImage::cluster, 0xffULL << 56);
    tiny.put(2 * TinyImage::cluster + 8, 0);
    Image image(tiny.save(scratch), Access::read_write);
    Progress progress;
    CHECK_THROWS_WITH(create_snapshot(image, "one", progress), Contains("is full") && Contains("has been repaired"));
    image.reload();
    CHECK(image.header().incompatible == 0);
}

TEST_CASE("nothing that another table still refers to is freed, however low its refcount is")
{
    Scratch scratch;
    TinyImage tiny;
    Progress progress;
    const std::uint64_t last = 7;
    std::string gone = "a";
    bool compressed = false;
    SECTION("data of another snapshot") {}
    SECTION("compressed data of the disk")
    {
        compressed = true;
        tiny.set_l2(2, flag_compressed | last * TinyImage::cluster);
    }
    const std::string path = tiny.save(scratch);
    {
        Image image(path, Access::read_write);
        create_snapshot(image, "a", progress);
        image.reload();
        if (compressed)
            return_refcount_to_one(image, last);
    }
    if (!compressed) {
        Image image(path, Access::read_write);
        create_snapshot(image, "b", progress);
        image.reload();
        resize_image(image, TinyImage::cluster, Shrink::allow, 0, progress);
        image.reload();
        return_refcount_to_one(image, last);
    }
    const auto before = unit::file_bytes(path);
    {
        Image image(path, Access::read_write);
        CHECK_THROWS_WITH(delete_snapshot(image, gone, progress), Contains("would be free"));
    }
    CHECK(unit::file_bytes(path) == before);
}

TEST_CASE("tables that are referred to twice are looked at once, and not edited")
{
    Scratch scratch;
    TinyImage tiny;
    Progress progress;
    SECTION("a refcount block")
    {
        tiny.put(TinyImage::cluster + 8, 2 * TinyImage::cluster);
    }
    SECTION("an L2 table")
    {
        tiny.header.l1_size = 2;
        tiny.put(3 * TinyImage::cluster, 4 * TinyImage::cluster);
        tiny.put(3 * TinyImage::cluster + 8, 4 * TinyImage::cluster);
        for (std::uint64_t i = 0; i < 3; i++)
            tiny.set_l2(i, (5 + i) * TinyImage::cluster);
        for (std::uint64_t i = 4; i < 8; i++)
            tiny.set_refcount(i, 2);
        CHECK(checked(tiny).clean());
        CHECK(checked(tiny).allocated_clusters == 3);
    }
    Image image(tiny.save(scratch), Access::read_write);
    CHECK_THROWS_WITH(create_snapshot(image, "one", progress), Contains("twice"));
}

TEST_CASE("compressed data in the header is no data")
{
    TinyImage tiny;
    tiny.set_l2(2, flag_compressed | 512);
    CHECK(checked(tiny).structural == 1);
}

TEST_CASE("an edit that fails after it has written gives the space back")
{
    Scratch scratch;
    TinyImage tiny;
    const std::string path = tiny.save(scratch);
    {
        Image image(path, Access::read_write);
        Edit edit(image);
        edit.write_new(std::vector<std::byte>(20 << 20));
        CHECK(image.file().size() > (16 << 20));
    }
    CHECK(unit::file_bytes(path).size() == 8 * TinyImage::cluster);
}

TEST_CASE("damaged images end in a report or an error, whatever is done with them")
{
    Scratch scratch;
    test::Random random(1);
    Progress progress;
    for (int i = 0; i < 3000; i++) {
        auto bytes = TinyImage().bytes();
        for (std::uint64_t n = random.between(1, 6); n-- > 0;) {
            const std::uint64_t cluster = random.below(5) * TinyImage::cluster;
            const std::uint64_t at = cluster + random.below(cluster ? 64 : 112);
            bytes[at] = static_cast<std::byte>(random.next());
        }
        const std::string path = scratch.file("damaged");
        unit::write_file(path, bytes);
        try {
            Image image(path, Access::read_write);
            check_and_repair(image, Repair::all, progress);
            create_snapshot(image, "new", progress);
            image.reload();
            resize_image(image, image.header().size + 65536, Shrink::refuse, 0, progress);
            image.reload();
            delete_snapshot(image, "new", progress);
        } catch (const Error &) {
            SUCCEED("refused");
        }
    }
}
