// SPDX-License-Identifier: GPL-2.0-only
// Entries of L1, L2 and refcount tables.
#include <catch2/catch.hpp>

#include "format.hpp"
#include "random.hpp"
#include "seed.hpp"

#include <ostream>

namespace {

using liveblk::test::Random;
using liveblk::unit::seed;

constexpr std::uint64_t copied = 1ULL << 63;
constexpr std::uint64_t compressed = 1ULL << 62;
constexpr std::uint64_t zero = 1;

qcow2_geometry geometry(std::uint32_t version, std::uint32_t cluster_bits)
{
    qcow2_geometry g{};
    g.version = version;
    g.cluster_bits = cluster_bits;
    g.l2_bits = cluster_bits - 3;
    g.refcount_order = 4;
    return g;
}

bool bit(std::uint64_t entry, unsigned number)
{
    return (entry >> number) & 1;
}

bool any_bit(std::uint64_t entry, unsigned first, unsigned last)
{
    for (unsigned n = first; n <= last; n++)
        if (bit(entry, n))
            return true;
    return false;
}

// Whether bits 9 to 55, or up to 63, give a cluster inside the image.
bool offset_usable(const qcow2_geometry &g, std::uint64_t offset, std::uint64_t limit)
{
    return offset % (1ULL << g.cluster_bits) == 0 && offset < limit;
}

std::uint64_t offset_of(std::uint64_t entry)
{
    return (entry << 8 >> 17) << 9;
}

// The specification's table for standard L2 entries, bit by bit.
qcow2_cluster_type l2_model(const qcow2_geometry &g, std::uint64_t entry, std::uint64_t limit)
{
    if (bit(entry, 62))
        return QCOW2_CLUSTER_COMPRESSED;
    if (any_bit(entry, 1, 8) || any_bit(entry, 56, 61))
        return QCOW2_CLUSTER_INVALID;
    if (bit(entry, 0) && g.version == 2)
        return QCOW2_CLUSTER_INVALID;
    if (!any_bit(entry, 9, 55)) {
        if (bit(entry, 63))
            return QCOW2_CLUSTER_INVALID;
        return bit(entry, 0) ? QCOW2_CLUSTER_ZERO_PLAIN : QCOW2_CLUSTER_UNALLOCATED;
    }
    if (!offset_usable(g, offset_of(entry), limit))
        return QCOW2_CLUSTER_INVALID;
    return bit(entry, 0) ? QCOW2_CLUSTER_ZERO_ALLOC : QCOW2_CLUSTER_NORMAL;
}

bool l1_model(const qcow2_geometry &g, std::uint64_t entry, std::uint64_t limit)
{
    if (any_bit(entry, 0, 8) || any_bit(entry, 56, 62))
        return false;
    if (!any_bit(entry, 9, 55))
        return !bit(entry, 63);
    return offset_usable(g, offset_of(entry), limit);
}

bool reftable_model(const qcow2_geometry &g, std::uint64_t entry, std::uint64_t limit)
{
    return !any_bit(entry, 0, 8) && (entry == 0 || offset_usable(g, entry, limit));
}

// Mostly plausible entries, with every kind of fault now and then.
std::uint64_t random_entry(Random &random, const qcow2_geometry &g, std::uint64_t limit)
{
    std::uint64_t entry = 0;

    if (random.percent(5))
        return random.next();
    if (random.percent(80))
        entry = random.below(2 * (limit >> g.cluster_bits) + 1) << g.cluster_bits;
    if (random.percent(10))
        entry |= 1ULL << random.between(9, 55);
    if (random.percent(5))
        entry |= 1ULL << random.between(1, 8);
    if (random.percent(5))
        entry |= 1ULL << random.between(56, 61);
    if (random.percent(30))
        entry |= zero;
    if (random.percent(10))
        entry |= compressed;
    if (random.percent(50))
        entry |= copied;
    return entry;
}

} // namespace

TEST_CASE("L2 entries have the types of the specification", "[entries]")
{
    const std::uint64_t cluster = 65536, limit = 100 * cluster;
    struct Case {
        std::uint64_t entry;
        qcow2_cluster_type v3;
        qcow2_cluster_type v2;
    };
    const Case cases[] = {
        {0, QCOW2_CLUSTER_UNALLOCATED, QCOW2_CLUSTER_UNALLOCATED},
        {zero, QCOW2_CLUSTER_ZERO_PLAIN, QCOW2_CLUSTER_INVALID},
        {5 * cluster, QCOW2_CLUSTER_NORMAL, QCOW2_CLUSTER_NORMAL},
        {5 * cluster | copied, QCOW2_CLUSTER_NORMAL, QCOW2_CLUSTER_NORMAL},
        {5 * cluster | zero, QCOW2_CLUSTER_ZERO_ALLOC, QCOW2_CLUSTER_INVALID},
        {5 * cluster | zero | copied, QCOW2_CLUSTER_ZERO_ALLOC, QCOW2_CLUSTER_INVALID},
        {compressed, QCOW2_CLUSTER_COMPRESSED, QCOW2_CLUSTER_COMPRESSED},
        {compressed | 0x123457, QCOW2_CLUSTER_COMPRESSED, QCOW2_CLUSTER_COMPRESSED},
        {copied, QCOW2_CLUSTER_INVALID, QCOW2_CLUSTER_INVALID},
        {copied | zero, QCOW2_CLUSTER_INVALID, QCOW2_CLUSTER_INVALID},
        {99 * cluster, QCOW2_CLUSTER_NORMAL, QCOW2_CLUSTER_NORMAL},
        {100 * cluster, QCOW2_CLUSTER_INVALID, QCOW2_CLUSTER_INVALID},
        {5 * cluster + 512, QCOW2_CLUSTER_INVALID, QCOW2_CLUSTER_INVALID},
        {5 * cluster + cluster / 2, QCOW2_CLUSTER_INVALID, QCOW2_CLUSTER_INVALID},
        {0x00ffffffffff0000, QCOW2_CLUSTER_INVALID, QCOW2_CLUSTER_INVALID},
        {~0ULL & ~compressed, QCOW2_CLUSTER_INVALID, QCOW2_CLUSTER_INVALID},
    };
    for (const Case &c : cases) {
        CAPTURE(c.entry);
        const qcow2_geometry v2 = geometry(2, 16), v3 = geometry(3, 16);
        CHECK(qcow2_l2_entry_type(&v2, c.entry, limit) == c.v2);
        CHECK(qcow2_l2_entry_type(&v3, c.entry, limit) == c.v3);
    }
}

TEST_CASE("a compressed cluster touches the host clusters that its sectors are in", "[entries]")
{
    struct Case {
        std::uint32_t bits;
        std::uint64_t offset, sectors, first;
        std::uint32_t count;
    };
    const std::vector<Case> cases = {
        {16, 0x50000, 0, 5, 1},   {16, 0x5fe00, 0, 5, 1},
        {16, 0x5ffff, 0, 5, 1},                             // one byte, and the rest of its sector
        {16, 0x5ffff, 1, 5, 2},                             // reaches into the next
        {16, 0x50001, 127, 5, 1},                           // the last sector of the cluster
        {16, 0x50001, 128, 5, 2}, {16, 0x5fe00, 255, 5, 3}, // as many sectors as there can be
        {12, 0x5e01, 15, 5, 3},   {21, 0xa00000, 8191, 5, 2},
    };
    for (const Case &c : cases) {
        CAPTURE(c.bits, c.offset, c.sectors);
        const qcow2_geometry g = geometry(3, c.bits);
        const std::uint64_t entry = compressed | c.sectors << (70 - c.bits) | c.offset;
        std::uint32_t count = 0;
        CHECK(qcow2_compressed_run(&g, entry, &count) == c.first);
        CHECK(count == c.count);
        CHECK(count <= QCOW2_COMPRESSED_MOST);
    }
}

TEST_CASE("each reserved bit makes an entry unusable", "[entries]")
{
    const std::uint64_t cluster = 4096, limit = 1ULL << 40, entry = 7 * cluster;
    const qcow2_geometry g = geometry(3, 12);
    for (unsigned n = 0; n < 64; n++) {
        CAPTURE(n);
        const bool reserved_l2 = (n >= 1 && n <= 8) || (n >= 56 && n <= 61);
        const bool reserved_l1 = n <= 8 || (n >= 56 && n <= 62);
        if (reserved_l2) {
            CHECK(qcow2_l2_entry_type(&g, 1ULL << n, limit) == QCOW2_CLUSTER_INVALID);
            CHECK(qcow2_l2_entry_type(&g, entry | copied | 1ULL << n, limit) == QCOW2_CLUSTER_INVALID);
        }
        if (reserved_l1) {
            CHECK_FALSE(qcow2_l1_entry_valid(&g, 1ULL << n, limit));
            CHECK_FALSE(qcow2_l1_entry_valid(&g, entry | copied | 1ULL << n, limit));
        }
        if (n <= 8) {
            CHECK_FALSE(qcow2_reftable_entry_valid(&g, 1ULL << n, limit));
            CHECK_FALSE(qcow2_reftable_entry_valid(&g, entry | 1ULL << n, limit));
        }
    }
}

TEST_CASE("L1 entries", "[entries]")
{
    const std::uint64_t cluster = 65536, limit = 10 * cluster;
    for (const std::uint32_t version : {2U, 3U}) {
        const qcow2_geometry g = geometry(version, 16);
        CHECK(qcow2_l1_entry_valid(&g, 0, limit));
        CHECK(qcow2_l1_entry_valid(&g, cluster, limit));
        CHECK(qcow2_l1_entry_valid(&g, 9 * cluster | copied, limit));
        CHECK_FALSE(qcow2_l1_entry_valid(&g, copied, limit));
        CHECK_FALSE(qcow2_l1_entry_valid(&g, 10 * cluster, limit));
        CHECK_FALSE(qcow2_l1_entry_valid(&g, cluster + 512, limit));
        CHECK_FALSE(qcow2_l1_entry_valid(&g, cluster | compressed, limit));
        CHECK_FALSE(qcow2_l1_entry_valid(&g, ~0ULL, limit));
    }
}

TEST_CASE("refcount table entries", "[entries]")
{
    const std::uint64_t cluster = 65536, limit = 10 * cluster;
    const qcow2_geometry g = geometry(3, 16);
    CHECK(qcow2_reftable_entry_valid(&g, 0, limit));
    CHECK(qcow2_reftable_entry_valid(&g, cluster, limit));
    CHECK(qcow2_reftable_entry_valid(&g, 9 * cluster, limit));
    CHECK_FALSE(qcow2_reftable_entry_valid(&g, 10 * cluster, limit));
    CHECK_FALSE(qcow2_reftable_entry_valid(&g, cluster + 512, limit));
    // All bits from 9 on are the offset: there are no flags to be stripped.
    CHECK_FALSE(qcow2_reftable_entry_valid(&g, cluster | copied, limit));
    CHECK_FALSE(qcow2_reftable_entry_valid(&g, 1ULL << 56, limit));
    CHECK_FALSE(qcow2_reftable_entry_valid(&g, ~0ULL, limit));
}

TEST_CASE("the end of the image bounds every entry exactly", "[entries]")
{
    for (std::uint32_t bits = 9; bits <= 21; bits++) {
        const qcow2_geometry g = geometry(3, bits);
        const std::uint64_t cluster = 1ULL << bits;
        for (const std::uint64_t clusters : {2ULL, 3ULL, 1000ULL, 0x00fffffffffffe00ULL >> bits}) {
            CAPTURE(bits, clusters);
            const std::uint64_t limit = clusters * cluster, last = limit - cluster;
            CHECK(qcow2_l2_entry_type(&g, last, limit) == QCOW2_CLUSTER_NORMAL);
            CHECK(qcow2_l2_entry_type(&g, limit, limit) != QCOW2_CLUSTER_NORMAL);
            CHECK(qcow2_l1_entry_valid(&g, last | copied, limit));
            CHECK_FALSE(qcow2_l1_entry_valid(&g, limit | copied, limit));
            CHECK(qcow2_reftable_entry_valid(&g, last, limit));
            CHECK_FALSE(qcow2_reftable_entry_valid(&g, limit, limit));
        }
    }
}

TEST_CASE("random entries are judged as the specification says", "[entries][random]")
{
    Random random(seed());
    unsigned seen[QCOW2_CLUSTER_INVALID + 1] = {}, valid_l1 = 0, valid_reftable = 0;
    constexpr unsigned rounds = 300000;

    for (unsigned i = 0; i < rounds; i++) {
        const qcow2_geometry g =
            geometry(random.percent(50) ? 2 : 3, static_cast<std::uint32_t>(random.between(9, 21)));
        const std::uint64_t limit = random.log_uniform(2, 1ULL << 30) << g.cluster_bits;
        const std::uint64_t entry = random_entry(random, g, limit);
        const qcow2_cluster_type type = qcow2_l2_entry_type(&g, entry, limit);
        const bool l1 = qcow2_l1_entry_valid(&g, entry, limit);
        const bool reftable = qcow2_reftable_entry_valid(&g, entry, limit);
        if (type != l2_model(g, entry, limit) || l1 != l1_model(g, entry, limit) ||
            reftable != reftable_model(g, entry, limit)) {
            CAPTURE(seed(), i, g.version, g.cluster_bits, limit, entry, type, l1, reftable);
            FAIL("judged otherwise than the specification");
        }
        seen[type]++;
        valid_l1 += l1;
        valid_reftable += reftable;
    }
    for (const unsigned count : seen)
        CHECK(count > rounds / 100);
    CHECK(valid_l1 > rounds / 100);
    CHECK(valid_reftable > rounds / 100);
}
