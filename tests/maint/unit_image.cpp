// SPDX-License-Identifier: GPL-2.0-only
#include <catch2/catch.hpp>

#include "error.hpp"
#include "random.hpp"
#include "repair.hpp"
#include "resize.hpp"
#include "snapshot_edits.hpp"
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
        edit = [&](Image &image) { resize_image(image, 4096, Shrink::refuse, progress); };
    }
    const std::string path = tiny.save(scratch);
    const auto before = unit::file_bytes(path);
    {
        Image image(path, Access::read_write);
        CHECK_THROWS_AS(edit(image), Error);
    }
    CHECK(unit::file_bytes(path) == before);
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
            resize_image(image, image.header().size + 65536, Shrink::refuse, progress);
            image.reload();
            delete_snapshot(image, "new", progress);
        } catch (const Error &) {
            SUCCEED("refused");
        }
    }
}
