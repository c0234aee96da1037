// SPDX-License-Identifier: GPL-2.0-only
#include <catch2/catch.hpp>

#include "qcow2/l2.hpp"
#include "qcow2/refcount_block.hpp"
#include "random.hpp"

#include <vector>

namespace {

using namespace liveblk::qcow2;
using liveblk::test::Random;

Header header(std::uint32_t version, unsigned cluster_bits, std::uint64_t incompatible = 0)
{
    Header h;
    h.version = version;
    h.cluster_bits = cluster_bits;
    h.incompatible = incompatible;
    return h;
}

} // namespace

TEST_CASE("an entry of each kind is told from the others")
{
    const std::uint64_t limit = 100 << 16;
    const L2Format v3(header(3, 16), limit);
    CHECK(v3.type(0) == ClusterType::unallocated);
    CHECK(v3.type(1) == ClusterType::zero_plain);
    CHECK(v3.type(5 << 16) == ClusterType::normal);
    CHECK(v3.type(5 << 16 | flag_copied) == ClusterType::normal);
    CHECK(v3.type(5 << 16 | 1) == ClusterType::zero_allocated);
    CHECK(v3.type(limit) == ClusterType::invalid);
    CHECK(v3.type((5 << 16) + 512) == ClusterType::invalid);
    CHECK(v3.type(5 << 16 | 2) == ClusterType::invalid);
    CHECK(v3.type(flag_copied) == ClusterType::invalid);
    CHECK(v3.type(flag_compressed | 0x30000 | 12345) == ClusterType::compressed);
    CHECK(v3.type(flag_compressed | limit) == ClusterType::invalid);
    CHECK(L2Format(header(2, 16), limit).type(1) == ClusterType::invalid);
    CHECK(L2Format(header(3, 16, incompat_extended_l2), limit).type(1) == ClusterType::invalid);
}

TEST_CASE("a compressed cluster takes the host clusters that its sectors lie in")
{
    const L2Format format(header(3, 16), 100 << 16);
    // 62 - (16 - 8) bits of offset; 2 more sectors, of which the last is in the next cluster.
    const std::uint64_t entry = flag_compressed | (2ULL << 54) | ((3 << 16) - 1024);
    const Run run = format.compressed_run(entry);
    CHECK(run.first == 2);
    CHECK(run.count == 2);
}

TEST_CASE("runs of consecutive clusters are found as such")
{
    const std::uint64_t c = 1 << 16;
    const std::vector<std::uint64_t> words = {5 * c, 6 * c, 0, 7 * c | flag_copied, 9 * c, 3, 1, 10 * c};
    std::vector<std::pair<std::uint64_t, std::uint64_t>> runs;
    std::vector<std::size_t> bad;
    for_each_run(
        L2Format(header(3, 16), 100 * c), words, [&](auto first, auto count) { runs.emplace_back(first, count); },
        [&](auto index) { bad.push_back(index); });
    CHECK(runs == std::vector<std::pair<std::uint64_t, std::uint64_t>>{{5, 3}, {9, 2}});
    CHECK(bad == std::vector<std::size_t>{5});
}

TEST_CASE("refcounts of every width are kept beside each other")
{
    Random random(1);
    for (unsigned order = 0; order <= 6; order++) {
        std::vector<std::byte> block(512);
        const std::uint64_t entries = 512 * 8 >> order;
        const std::uint64_t mask = order == 6 ? UINT64_MAX : (1ULL << (1U << order)) - 1;
        std::vector<std::uint64_t> model(entries);
        for (int i = 0; i < 5000; i++) {
            const std::uint64_t at = random.below(entries);
            model[at] = random.next() & mask;
            refcount_set(block, at, order, model[at]);
        }
        for (std::uint64_t i = 0; i < entries; i++)
            REQUIRE(refcount_get(block, i, order) == model[i]);
    }
}

TEST_CASE("a step stops at the first refcount out of its bounds")
{
    for (unsigned order = 2; order <= 6; order++) {
        std::vector<std::byte> block(4096);
        for (std::uint64_t i = 0; i < 500; i++)
            refcount_set(block, i, order, i == 300 ? 0 : 2);
        REQUIRE(refcount_step(block, 7, 400, order, 1, 2, 1) == 293);
        REQUIRE(refcount_get(block, 6, order) == 2);
        REQUIRE(refcount_get(block, 7, order) == 3);
        REQUIRE(refcount_get(block, 299, order) == 3);
        REQUIRE(refcount_get(block, 300, order) == 0);
        REQUIRE(refcount_step(block, 7, 100, order, 2, 3, UINT64_MAX) == 100);
        REQUIRE(refcount_get(block, 7, order) == 2);
    }
}
