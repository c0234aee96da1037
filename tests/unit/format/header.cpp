// SPDX-License-Identifier: GPL-2.0-only
// qcow2_header_parse(): every field at and past its bounds.
#include <catch2/catch.hpp>

#include "header_area.hpp"

#include <cerrno>

using namespace liveblk::unit;
using Catch::Matchers::Contains;

namespace {

constexpr std::uint64_t largest_offset = 0x00fffffffffffe00U;

// One field with another value, and what must come of it.
struct Case {
    Field field;
    std::uint64_t value;
    int result;
};

void try_all(const HeaderArea &base, std::initializer_list<Case> cases)
{
    REQUIRE(base.parse().result == 0);
    for (const Case &c : cases) {
        CAPTURE(c.field.offset, c.value);
        const Parsed parsed = HeaderArea(base).set(c.field, c.value).parse();
        CAPTURE(parsed.why);
        CHECK(parsed.result == c.result);
        CHECK(parsed.why.empty() == (c.result == 0));
    }
}

} // namespace

TEST_CASE("a version 2 header is read field by field", "[header]")
{
    HeaderArea area(2, 12);
    area.set(field::nb_snapshots, 3).set(field::snapshots_offset, 0x7000);
    // Bytes that are fields in version 3 only; an end marker comes first.
    area.put(v2_length + 8, 8, ~0ULL).put(v2_length + 16, 8, ~0ULL).put(v2_length + 24, 8, ~0ULL);

    const Parsed p = area.parse();
    REQUIRE(p.result == 0);
    CHECK(p.geometry.version == 2);
    CHECK(p.geometry.cluster_bits == 12);
    CHECK(p.geometry.refcount_order == 4);
    CHECK(p.geometry.l2_bits == 9);
    CHECK(p.geometry.size == 4 * 512 * 4096);
    CHECK(p.geometry.l1_size == 4);
    CHECK(p.geometry.l1_offset == 0x2000);
    CHECK(p.geometry.reftable_offset == 0x1000);
    CHECK(p.geometry.reftable_clusters == 1);
    CHECK(p.geometry.nb_snapshots == 3);
    CHECK(p.geometry.snapshots_offset == 0x7000);
    CHECK(p.geometry.incompat == 0);
    CHECK(p.geometry.compat == 0);
    CHECK(p.geometry.autoclear == 0);
    CHECK(p.geometry.header_length == 72);
}

TEST_CASE("a version 3 header is read field by field", "[header]")
{
    HeaderArea area(3, 16);
    area.set(field::size, 0x123456789a00).set(field::l1_size, 0x91a2c).set(field::l1_table_offset, 0x00f0123456780000);
    area.set(field::refcount_table_offset, 0x00e0123456780000).set(field::refcount_table_clusters, 5);
    area.set(field::nb_snapshots, 0xabcd).set(field::snapshots_offset, 0x00d0123456780000);
    area.set(field::incompatible_features, 0x8123456789abcdef & ~0x10ULL);
    area.set(field::compatible_features, 0x9123456789abcdef).set(field::autoclear_features, 0xa123456789abcdef);
    area.set(field::refcount_order, 6).set(field::header_length, 112);

    const Parsed p = area.parse();
    REQUIRE(p.result == 0);
    CHECK(p.geometry.version == 3);
    CHECK(p.geometry.cluster_bits == 16);
    CHECK(p.geometry.refcount_order == 6);
    CHECK(p.geometry.l2_bits == 13);
    CHECK(p.geometry.size == 0x123456789a00);
    CHECK(p.geometry.l1_size == 0x91a2c);
    CHECK(p.geometry.l1_offset == 0x00f0123456780000);
    CHECK(p.geometry.reftable_offset == 0x00e0123456780000);
    CHECK(p.geometry.reftable_clusters == 5);
    CHECK(p.geometry.nb_snapshots == 0xabcd);
    CHECK(p.geometry.snapshots_offset == 0x00d0123456780000);
    CHECK(p.geometry.incompat == (0x8123456789abcdef & ~0x10ULL));
    CHECK(p.geometry.compat == 0x9123456789abcdef);
    CHECK(p.geometry.autoclear == 0xa123456789abcdef);
    CHECK(p.geometry.header_length == 112);
}

TEST_CASE("a header cut at any length is refused", "[header]")
{
    struct Kind {
        std::uint32_t version;
        std::size_t length;
    };
    for (const Kind kind : {Kind{2, v2_length}, Kind{3, v3_length}, Kind{3, 112}, Kind{3, 512}}) {
        HeaderArea area(kind.version, 9);
        if (kind.version == 3)
            area.set(field::header_length, kind.length);
        for (std::size_t length = 0; length <= kind.length + 64; length++) {
            CAPTURE(kind.version, kind.length, length);
            const Parsed p = area.parse(length);
            CHECK(p.result == (length < kind.length ? -EINVAL : 0));
            if (length < 4)
                CHECK_THAT(p.why, Contains("not a QCOW2 image"));
            else if (length < kind.length)
                CHECK_THAT(p.why, Contains("truncated"));
        }
    }
}

TEST_CASE("another magic is refused, whichever bit differs", "[header]")
{
    for (unsigned bit = 0; bit < 32; bit++) {
        CAPTURE(bit);
        HeaderArea area(3);
        area.set(field::magic, area.get(field::magic) ^ (1U << bit));
        CHECK(area.parse().result == -EINVAL);
    }
}

TEST_CASE("only versions 2 and 3 are known", "[header]")
{
    for (const std::uint32_t version : {0U, 1U, 4U, 5U, 0x200U, 0x02000000U, 0x03000000U, 0xffffffffU}) {
        CAPTURE(version);
        const Parsed p = HeaderArea(3).set(field::version, version).parse();
        CHECK(p.result == -EINVAL);
        CHECK_THAT(p.why, Contains("version " + std::to_string(version)));
    }
}

TEST_CASE("cluster sizes of the specification are taken and no others", "[header]")
{
    for (const std::uint32_t version : {2U, 3U}) {
        for (std::uint32_t bits = 9; bits <= 21; bits++) {
            CAPTURE(version, bits);
            const Parsed p = HeaderArea(version, bits).parse();
            REQUIRE(p.result == 0);
            CHECK(p.geometry.l2_bits == bits - 3);
            CHECK(qcow2_cluster_size(&p.geometry) == 1U << bits);
        }
        for (const std::uint32_t bits : {0U, 1U, 8U, 22U, 31U, 32U, 63U, 64U, 0x80000000U, 0xffffffffU}) {
            CAPTURE(version, bits);
            const Parsed p = HeaderArea(version).set(field::cluster_bits, bits).parse();
            CHECK(p.result == -EINVAL);
            CHECK_THAT(p.why, Contains("cluster_bits"));
        }
    }
}

TEST_CASE("header_length is bounded by the fields, the cluster and its alignment", "[header]")
{
    try_all(HeaderArea(3, 9), {
                                  {field::header_length, 0, -EINVAL},
                                  {field::header_length, 72, -EINVAL},
                                  {field::header_length, 96, -EINVAL},
                                  {field::header_length, 103, -EINVAL},
                                  {field::header_length, 104, 0},
                                  {field::header_length, 105, -EINVAL},
                                  {field::header_length, 108, -EINVAL},
                                  {field::header_length, 111, -EINVAL},
                                  {field::header_length, 112, 0},
                                  {field::header_length, 504, 0},
                                  {field::header_length, 512, 0},
                                  {field::header_length, 520, -EINVAL},
                                  {field::header_length, 0xfffffff8, -EINVAL},
                                  {field::header_length, 0xffffffff, -EINVAL},
                              });
    // Longer than what is looked at, though not than the cluster.
    CHECK(HeaderArea(3, 17).set(field::header_length, 65536).parse().result == 0);
    CHECK(HeaderArea(3, 17).set(field::header_length, 65544).parse().result == -EINVAL);
}

TEST_CASE("a compression type needs its feature bit and a header that reaches so far", "[header]")
{
    for (const std::uint64_t type : {0U, 1U, 2U, 255U}) {
        for (const std::uint64_t length : {104U, 112U}) {
            for (const std::uint64_t features : {0U, 1U << 3}) {
                CAPTURE(type, length, features);
                HeaderArea area(3);
                // With the short header the same byte belongs to an empty extension.
                area.set(field::header_length, length).set(field::incompatible_features, features);
                area.set(field::compression_type, type);
                const Parsed p = area.parse();
                CHECK(p.result == (type && length == 112 && !features ? -EINVAL : 0));
                if (p.result)
                    CHECK_THAT(p.why, Contains("compression type " + std::to_string(type)));
            }
        }
    }
}

TEST_CASE("refcounts have 1 to 64 bits", "[header]")
{
    for (std::uint32_t order = 0; order <= 6; order++) {
        CAPTURE(order);
        const Parsed p = HeaderArea(3).set(field::refcount_order, order).parse();
        REQUIRE(p.result == 0);
        CHECK(p.geometry.refcount_order == order);
        CHECK(qcow2_refcounts_per_block(&p.geometry) == 4096U * 8 / (1U << order));
        CHECK(1U << qcow2_refblock_bits(&p.geometry) == 65536U * 8 / (1U << order));
    }
    try_all(HeaderArea(3), {
                               {field::refcount_order, 7, -EINVAL},
                               {field::refcount_order, 8, -EINVAL},
                               {field::refcount_order, 32, -EINVAL},
                               {field::refcount_order, 0x04000000, -EINVAL},
                               {field::refcount_order, 0xffffffff, -EINVAL},
                           });
}

TEST_CASE("encryption is refused by name", "[header]")
{
    for (const std::uint32_t version : {2U, 3U}) {
        for (const std::uint32_t method : {1U, 2U, 3U, 0x01000000U, 0xffffffffU}) {
            CAPTURE(version, method);
            const Parsed p = HeaderArea(version).set(field::crypt_method, method).parse();
            CHECK(p.result == -EOPNOTSUPP);
            CHECK_THAT(p.why, Contains("crypt_method " + std::to_string(method)));
        }
    }
}

TEST_CASE("the virtual size is a positive number of sectors that the L1 table can map", "[header]")
{
    // 512-byte clusters: an L2 table maps 64 clusters, 32 KiB.
    try_all(HeaderArea(3, 9), {
                                  {field::size, 0, -EINVAL},
                                  {field::size, 1, -EINVAL},
                                  {field::size, 511, -EINVAL},
                                  {field::size, 512, 0},
                                  {field::size, 513, -EINVAL},
                                  {field::size, 3 * 32768 + 512, 0},
                                  {field::size, 4 * 32768, 0},
                                  {field::size, 4 * 32768 + 512, -EINVAL},
                                  {field::size, 1ULL << 62, -EINVAL},
                                  {field::size, (1ULL << 62) + 512, -EINVAL},
                                  {field::size, 1ULL << 63, -EINVAL},
                                  {field::size, 0xfffffffffffffe00, -EINVAL},
                                  {field::size, 0xffffffffffffffff, -EINVAL},
                              });
    // The most there is: 32 MiB of L1 entries and 2 MiB clusters.
    HeaderArea largest(3, 21);
    largest.set(field::l1_size, 1U << 22).set(field::size, 1ULL << 61);
    try_all(largest, {{field::size, (1ULL << 61) + 512, -EINVAL}, {field::size, (1ULL << 61) - 512, 0}});
}

TEST_CASE("extended L2 entries halve what an L1 entry maps", "[header]")
{
    HeaderArea area(3, 16);
    area.set(field::incompatible_features, QCOW2_INCOMPAT_EXTL2);
    CHECK(area.parse().result == -EINVAL);
    area.set(field::l1_size, 7);
    CHECK(area.parse().result == -EINVAL);
    area.set(field::l1_size, 8);
    const Parsed p = area.parse();
    REQUIRE(p.result == 0);
    CHECK(p.geometry.l2_bits == 12);
}

TEST_CASE("the L1 table is long enough and not too long", "[header]")
{
    try_all(HeaderArea(2, 21), {
                                   {field::l1_size, 0, -EINVAL},
                                   {field::l1_size, 3, -EINVAL},
                                   {field::l1_size, 4, 0},
                                   {field::l1_size, 5, 0},
                                   {field::l1_size, 1U << 22, 0},
                                   {field::l1_size, (1U << 22) + 1, -EFBIG},
                                   {field::l1_size, 0x20000000, -EFBIG},
                                   {field::l1_size, 0xffffffff, -EFBIG},
                               });
}

TEST_CASE("the L1 table has a place of its own", "[header]")
{
    const std::uint64_t cluster = 65536;
    for (const std::uint32_t version : {2U, 3U}) {
        const std::uint64_t last = (largest_offset - 32) & ~(cluster - 1);
        try_all(HeaderArea(version), {
                                         {field::l1_table_offset, 0, -EINVAL},
                                         {field::l1_table_offset, 512, -EINVAL},
                                         {field::l1_table_offset, cluster, -EINVAL},
                                         {field::l1_table_offset, 2 * cluster, 0},
                                         {field::l1_table_offset, 2 * cluster + 8, -EINVAL},
                                         {field::l1_table_offset, 2 * cluster + cluster / 2, -EINVAL},
                                         {field::l1_table_offset, last, 0},
                                         {field::l1_table_offset, last + cluster, -EINVAL},
                                         {field::l1_table_offset, 1ULL << 56, -EINVAL},
                                         {field::l1_table_offset, 1ULL << 63, -EINVAL},
                                         {field::l1_table_offset, 0xffffffffffff0000, -EINVAL},
                                     });
    }
}

TEST_CASE("a long L1 table ends before the offsets do", "[header]")
{
    const std::uint64_t cluster = 65536, bytes = 3 * cluster;
    HeaderArea area(3);
    area.set(field::l1_size, bytes / 8);
    const std::uint64_t last = (largest_offset - bytes) & ~(cluster - 1);
    try_all(area, {{field::l1_table_offset, last, 0}, {field::l1_table_offset, last + cluster, -EINVAL}});
}

TEST_CASE("the refcount table is there and not too long", "[header]")
{
    HeaderArea area(3, 16);
    area.set(field::l1_table_offset, 1ULL << 40);
    try_all(area, {
                      {field::refcount_table_clusters, 0, -EINVAL},
                      {field::refcount_table_clusters, 1, 0},
                      {field::refcount_table_clusters, 128, 0},
                      {field::refcount_table_clusters, 129, -EINVAL},
                      {field::refcount_table_clusters, 0x10000, -EINVAL},
                      {field::refcount_table_clusters, 0x80000000, -EINVAL},
                      {field::refcount_table_clusters, 0xffffffff, -EINVAL},
                  });
}

TEST_CASE("the refcount table has a place of its own", "[header]")
{
    const std::uint64_t cluster = 65536, last = (largest_offset - cluster) & ~(cluster - 1);
    HeaderArea area(3);
    try_all(area, {
                      {field::refcount_table_offset, 0, -EINVAL},
                      {field::refcount_table_offset, 4096, -EINVAL},
                      {field::refcount_table_offset, cluster + 4096, -EINVAL},
                      {field::refcount_table_offset, 2 * cluster, -EINVAL},
                      {field::refcount_table_offset, 3 * cluster, 0},
                      {field::refcount_table_offset, last, 0},
                      {field::refcount_table_offset, last + cluster, -EINVAL},
                      {field::refcount_table_offset, 1ULL << 56, -EINVAL},
                      {field::refcount_table_offset, 0xffffffffffff0000, -EINVAL},
                  });
}

TEST_CASE("tables may touch and not overlap", "[header]")
{
    const std::uint64_t cluster = 4096;
    // An L1 table of 3 clusters and a refcount table of 2.
    HeaderArea area(3, 12);
    area.set(field::l1_size, 3 * cluster / 8).set(field::refcount_table_clusters, 2);
    area.set(field::l1_table_offset, 10 * cluster).set(field::refcount_table_offset, 20 * cluster);
    for (std::uint64_t at = 1; at < 20; at++) {
        CAPTURE(at);
        const bool apart = at + 2 <= 10 || at >= 13;
        const Parsed p = HeaderArea(area).set(field::refcount_table_offset, at * cluster).parse();
        CHECK(p.result == (apart ? 0 : -EINVAL));
        if (!apart)
            CHECK_THAT(p.why, Contains("overlap"));
    }
}

TEST_CASE("snapshots are bounded in number and place", "[header]")
{
    const std::uint64_t cluster = 65536;
    HeaderArea area(3);
    // The place means nothing without snapshots.
    try_all(area,
            {{field::snapshots_offset, 0, 0}, {field::snapshots_offset, 1, 0}, {field::snapshots_offset, ~0ULL, 0}});
    area.set(field::snapshots_offset, 5 * cluster).set(field::nb_snapshots, 1);
    try_all(area, {
                      {field::nb_snapshots, 65536, 0},
                      {field::nb_snapshots, 65537, -EFBIG},
                      {field::nb_snapshots, 0xffffffff, -EFBIG},
                      {field::snapshots_offset, 0, -EINVAL},
                      {field::snapshots_offset, 8, -EINVAL},
                      {field::snapshots_offset, cluster, 0},
                      {field::snapshots_offset, cluster + 8, -EINVAL},
                      {field::snapshots_offset, largest_offset & ~(cluster - 1), 0},
                      {field::snapshots_offset, 1ULL << 56, -EINVAL},
                      {field::snapshots_offset, 0xffffffffffff0000, -EINVAL},
                  });
}

TEST_CASE("a reason always fits and ends", "[header]")
{
    const Parsed p = HeaderArea(3).set(field::size, 0xffffffffffffffff).parse();
    CHECK(p.result == -EINVAL);
    CHECK(p.why.size() < sizeof(qcow2_reason::text));
    CHECK_THAT(p.why, Contains("18446744073709551615"));
}
