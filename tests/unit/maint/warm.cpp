// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/warm.hpp"

#include "tiny_image.hpp"

#include <catch2/catch.hpp>

namespace {

using namespace liveblk;
using namespace liveblk::qcow2;
using unit::Scratch;
using unit::TinyImage;

// Bytes that this process has read in all.
std::uint64_t bytes_read()
{
    std::ifstream io("/proc/self/io");
    std::string what;
    std::uint64_t n = 0;
    REQUIRE(io >> what >> n);
    REQUIRE(what == "rchar:");
    return n;
}

// What looking at the count itself reads comes to less than this.
constexpr std::uint64_t noise = TinyImage::cluster / 2;

template <typename Fn>
std::uint64_t clusters_read_by(Fn fn)
{
    const std::uint64_t before = bytes_read();
    fn();
    return (bytes_read() - before + noise) / TinyImage::cluster;
}

} // namespace

TEST_CASE("warming reads each table once, and only what is a table")
{
    Scratch scratch;
    TinyImage tiny;
    const Image image(tiny.save(scratch), Access::read_only);
    const auto l1 = image.read_active_l1();
    CHECK(clusters_read_by([&] { warm_tables(image, l1); }) == 1);
    CHECK(clusters_read_by([&] { warm_tables(image, std::vector{l1[0], l1[0], l1[0]}); }) == 1);
    const std::vector<std::uint64_t> wrong = {0, 1ULL << 40, TinyImage::cluster + 512, 8 * TinyImage::cluster};
    CHECK(clusters_read_by([&] { warm_tables(image, wrong); }) == 0);
    // The table of refcounts itself is one cluster.
    CHECK(clusters_read_by([&] { warm_refcounts(image); }) == 2);
}

TEST_CASE("warming leaves it to others to say what cannot be read")
{
    Scratch scratch;
    TinyImage tiny;
    tiny.put(TinyImage::cluster, 1ULL << 40);
    tiny.put(TinyImage::cluster + 8, 5 * TinyImage::cluster + 1);
    const Image image(tiny.save(scratch), Access::read_only);
    CHECK(clusters_read_by([&] { warm_refcounts(image); }) == 1);
}
