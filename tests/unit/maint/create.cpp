// SPDX-License-Identifier: GPL-2.0-only
// Images that are made anew; tests/runner/maint-create.sh has qemu-img judge them.
#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "qcow2/backing.hpp"
#include "qcow2/check.hpp"
#include "qcow2/create.hpp"
#include "scratch.hpp"

#include <bit>
#include <filesystem>

namespace {

using namespace liveblk;
using namespace liveblk::qcow2;
using Catch::Matchers::Contains;
using unit::Scratch;

constexpr std::uint64_t kib = 1ULL << 10;
constexpr std::uint64_t gib = 1ULL << 30;
constexpr std::uint64_t tib = 1ULL << 40;

std::string make(const Scratch &scratch, const NewImage &image)
{
    const std::string path = scratch.file("new");
    unit::write_file(path, {});
    ImageFile file(path, Access::read_write);
    create_image(file, image);
    return path;
}

std::string refusal(const NewImage &image)
{
    const Scratch scratch;
    try {
        make(scratch, image);
    } catch (const Error &e) {
        CHECK(std::filesystem::file_size(scratch.file("new")) == 0);
        return e.what();
    }
    return "not refused";
}

// As the parser that it shares with the kernel reads it, and with every cluster counted.
void must_be_right(const NewImage &wanted)
{
    CAPTURE(wanted.size, wanted.cluster_bits, wanted.backing_file);
    const Scratch scratch;
    const Image image(make(scratch, wanted), Access::read_only);
    const Header &h = image.header();
    CHECK(h.version == 3);
    CHECK(h.faults == 0);
    CHECK(h.size == wanted.size);
    CHECK(h.cluster_bits == wanted.cluster_bits);
    CHECK(h.refcount_order == 4);
    CHECK(h.incompatible == 0);
    CHECK(h.compatible == 0);
    CHECK(h.autoclear == 0);
    CHECK(h.nb_snapshots == 0);
    CHECK(h.l1_size == h.l1_entries_for(wanted.size));
    CHECK(h.backing_file == wanted.backing_file);
    CHECK(h.text_extension(extension_backing_format).value_or("") == wanted.backing_format);
    CHECK(image.file().size() == image.limit());
    Progress progress;
    const CheckReport report = Checker(image, progress).run();
    CHECK(report.clean());
    CHECK(report.allocated_clusters == 0);
    CHECK(report.image_end_offset == image.file().size());
}

} // namespace

TEST_CASE("a new image has its size, with clusters of any size")
{
    for (unsigned bits = min_cluster_bits; bits <= max_cluster_bits; bits++)
        for (const std::uint64_t size :
             {std::uint64_t{sector_size}, 3 * sector_size, 64 * kib, 64 * kib + sector_size, gib})
            must_be_right({.size = size, .cluster_bits = bits, .backing_file = "", .backing_format = ""});
}

TEST_CASE("a new image may be large")
{
    must_be_right({.size = 64 * tib, .cluster_bits = 16, .backing_file = "base", .backing_format = "qcow2"});
    must_be_right(
        {.size = 64 * tib + sector_size, .cluster_bits = 21, .backing_file = "base", .backing_format = "raw"});
    // The largest L1 table there is, and the largest refcounts for that.
    must_be_right({.size = 128 * gib, .cluster_bits = 9, .backing_file = "", .backing_format = ""});
    must_be_right({.size = 8 * tib, .cluster_bits = 12, .backing_file = "", .backing_format = ""});
    must_be_right({.size = max_size / 1024, .cluster_bits = 20, .backing_file = "", .backing_format = ""});
}

TEST_CASE("what no image can be is refused, and nothing is written")
{
    const auto with_size = [](std::uint64_t size, unsigned bits = 16) {
        return refusal({.size = size, .cluster_bits = bits, .backing_file = "", .backing_format = ""});
    };
    CHECK_THAT(with_size(0), Contains("size of 0 bytes is not a positive multiple of 512"));
    CHECK_THAT(with_size(1000), Contains("size of 1000 bytes is not"));
    CHECK_THAT(with_size(128 * gib + 512, 9), Contains("clusters of 512 bytes, 137438953984 bytes are more than"));
    CHECK_THAT(with_size(64 * tib, 12), Contains("clusters of 4096 bytes"));
    CHECK_THAT(with_size(max_size + 512, 21), Contains("more than an image can have"));
    CHECK_THAT(with_size(gib, 8), Contains("are not between 512 and 2097152 bytes"));
    CHECK_THAT(with_size(gib, 22), Contains("are not between 512 and 2097152 bytes"));
}

TEST_CASE("the name of a backing file is as long as a header takes it")
{
    const auto named = [](std::size_t length, unsigned bits) {
        return NewImage{
            .size = gib, .cluster_bits = bits, .backing_file = std::string(length, 'x'), .backing_format = "qcow2"};
    };
    must_be_right(named(1023, 12));
    CHECK_THAT(refusal(named(1024, 12)), Contains("has 1024 bytes, and 1023 are the most"));
    // The header and its extensions take the rest of a small cluster.
    must_be_right(named(512 - 112 - 16 - 8, 9));
    CHECK_THAT(refusal(named(512 - 112 - 16 - 8 + 1, 9)), Contains("no room in a cluster of 512 bytes"));
    must_be_right({.size = gib, .cluster_bits = 16, .backing_file = "a b\n\xff", .backing_format = "raw"});
}

TEST_CASE("the name leads to the image below")
{
    const auto leads = [](const std::string &image, const std::string &below) {
        Header h;
        h.backing_file = name_below(image, below);
        Extension extension = {.type = extension_backing_format, .data = {}};
        for (const char c : std::string("qcow2"))
            extension.data.push_back(static_cast<std::byte>(c));
        h.extensions.push_back(extension);
        return std::filesystem::path(backing_of(image, h)->path).lexically_normal() == below;
    };
    CHECK(name_below("/srv/top", "/srv/base") == "base");
    CHECK(name_below("/srv/top", "/srv/disk:1") == "./disk:1");
    CHECK(name_below("/srv/top", "/srv/json:{}") == "./json:{}");
    CHECK(name_below("/srv/top", "/srv/vm/base") == "/srv/vm/base");
    CHECK(name_below("/srv/vm/top", "/srv/base:1") == "/srv/base:1");
    CHECK(name_below("/top", "/base") == "base");
    CHECK(leads("/srv/top", "/srv/a b"));
    CHECK(leads("/srv/top", "/srv/disk:1"));
    CHECK(leads("/srv/top", "/srv/json:{}"));
    CHECK(leads("/srv/vm/top", "/dev/mapper/vg-lv"));
    CHECK(leads("/top", "/base"));
}
