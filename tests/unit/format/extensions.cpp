// SPDX-License-Identifier: GPL-2.0-only
// Header extensions, above all at the edges of what they may lie in.
#include <catch2/catch.hpp>

#include "header_area.hpp"
#include "random.hpp"
#include "seed.hpp"

#include <algorithm>
#include <cerrno>

using namespace liveblk::unit;
using Catch::Matchers::Contains;

namespace {

constexpr std::uint32_t some_type = 0x11223344;

std::uint64_t be32(std::span<const std::uint8_t> bytes, std::size_t at)
{
    return std::uint64_t{bytes[at]} << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3];
}

// The walk as the specification words it, over a header area that is valid otherwise.
bool extensions_fit(const HeaderArea &area, std::size_t available)
{
    const std::uint64_t backing = area.get(field::backing_file_offset);
    const std::uint64_t end = std::min<std::uint64_t>(backing ? backing : area.cluster_size(), available);
    std::uint64_t at = area.extensions_begin();

    while (at + 8 <= end) {
        const std::uint64_t type = be32(area.bytes(), at), length = be32(area.bytes(), at + 4);
        if (type == 0)
            return true;
        if (at + 8 + length > end)
            return false;
        at += 8 + (length + 7) / 8 * 8;
    }
    return true;
}

} // namespace

TEST_CASE("an extension of any length at any place fits or is refused", "[extensions]")
{
    // 512-byte clusters: a filler puts the head at each possible place.
    for (std::size_t filler = 0; filler <= 400; filler += 8) {
        HeaderArea base(3, 9);
        if (filler)
            base.extension(some_type, filler - 8);
        const std::size_t head = v3_length + filler;
        for (std::size_t length = 0; length <= 512; length++) {
            HeaderArea area(base);
            area.extension(some_type, length);
            const bool fits = head + 8 > 512 || head + 8 + length <= 512;
            const Parsed p = area.parse();
            if ((p.result == 0) != fits) {
                CAPTURE(head, length, p.why);
                FAIL("accepted what does not fit, or refused what does");
            }
        }
    }
}

TEST_CASE("an extension ends inside what there is of the image", "[extensions]")
{
    HeaderArea area(3, 16);
    area.extension(some_type, std::size_t{64});
    for (std::size_t length = v3_length; length < 300; length++) {
        CAPTURE(length);
        // A head that is cut off is no extension; one whose data is cut off is refused.
        const bool accepted = length < v3_length + 8 || length >= v3_length + 8 + 64;
        const Parsed p = area.parse(length);
        CHECK(p.result == (accepted ? 0 : -EINVAL));
        if (!accepted)
            CHECK_THAT(p.why, Contains("0x11223344 of 64 bytes"));
    }
}

TEST_CASE("lengths near 2^32 do not wrap", "[extensions]")
{
    for (const std::uint32_t version : {2U, 3U}) {
        for (std::uint64_t length = 0xfffffff0; length <= 0xffffffff; length++) {
            CAPTURE(version, length);
            HeaderArea area(version);
            area.put(area.extensions_begin(), 4, some_type).put(area.extensions_begin() + 4, 4, length);
            CHECK(area.parse().result == -EINVAL);
        }
    }
}

TEST_CASE("an area full of empty extensions without an end marker is taken", "[extensions]")
{
    HeaderArea area(2, 9);
    for (std::size_t at = v2_length; at + 8 <= 512; at += 8)
        area.put(at, 4, some_type);
    CHECK(area.parse().result == 0);
    for (std::size_t length = v2_length; length <= 512; length++) {
        CAPTURE(length);
        CHECK(area.parse(length).result == 0);
    }
}

TEST_CASE("nothing after the end marker counts", "[extensions]")
{
    HeaderArea area(3, 9);
    area.extension(some_type, std::size_t{3}).extension(QCOW2_EXT_END, std::size_t{0});
    area.put(v3_length + 24, 4, some_type).put(v3_length + 28, 4, 0xffffffff);
    CHECK(area.parse().result == 0);
    // Not even the end marker's own length.
    area.put(v3_length + 20, 4, 0xffffffff);
    CHECK(area.parse().result == 0);
}

TEST_CASE("data is padded to 8 bytes", "[extensions]")
{
    for (std::size_t length = 0; length <= 17; length++) {
        CAPTURE(length);
        HeaderArea area(3, 9);
        area.extension(some_type, length);
        const std::size_t next = v3_length + 8 + (length + 7) / 8 * 8;
        area.put(next, 4, some_type).put(next + 4, 4, 0x10000);
        CHECK(area.parse().result == -EINVAL);
        area.put(next, 4, QCOW2_EXT_END);
        CHECK(area.parse().result == 0);
    }
}

TEST_CASE("a backing file name ends the extensions and lies in the header's cluster", "[extensions]")
{
    HeaderArea base(3, 9);
    base.extension(some_type, std::size_t{40});
    const std::size_t end = v3_length + 8 + 40;
    struct Case {
        std::uint64_t offset;
        int result;
    };
    for (const Case c : {Case{8, -EINVAL}, Case{v3_length - 1, -EINVAL}, Case{v3_length, 0}, Case{v3_length + 7, 0},
                         Case{v3_length + 8, -EINVAL}, Case{end - 1, -EINVAL}, Case{end, 0}, Case{end + 1, 0},
                         Case{512, 0}, Case{513, -EINVAL}, Case{1ULL << 32, -EINVAL}, Case{~0ULL, -EINVAL}}) {
        CAPTURE(c.offset);
        CHECK(HeaderArea(base).set(field::backing_file_offset, c.offset).parse().result == c.result);
    }
}

TEST_CASE("random chains of extensions are judged as the specification says", "[extensions][random]")
{
    liveblk::test::Random random(seed());
    unsigned accepted = 0;

    for (unsigned round = 0; round < 20000; round++) {
        HeaderArea area(random.percent(50) ? 2 : 3, random.percent(50) ? 9 : 12);
        std::size_t at = area.extensions_begin();
        while (at + 8 <= area.cluster_size() && random.percent(90)) {
            const std::uint64_t length =
                random.percent(95) ? random.below(96) : random.next() >> random.between(32, 63);
            area.put(at, 4, random.percent(3) ? 0 : random.next()).put(at + 4, 4, length);
            at += 8 + std::min<std::uint64_t>((length + 7) / 8 * 8, area.cluster_size());
        }
        if (random.percent(30))
            area.set(field::backing_file_offset, random.between(area.extensions_begin(), area.cluster_size()));
        const std::size_t available = random.between(area.extensions_begin(), area.cluster_size() + 64);
        const Parsed p = area.parse(available);
        if ((p.result == 0) != extensions_fit(area, available)) {
            CAPTURE(seed(), round, available, p.result, p.why);
            FAIL("judged otherwise than the specification");
        }
        accepted += p.result == 0;
    }
    // Both kinds must occur for the test to mean anything.
    CHECK(accepted > 2000);
    CHECK(accepted < 18000);
}

TEST_CASE("the name of the data file is cut, and empty if there is none", "[extensions]")
{
    const auto name_of = [](const HeaderArea &area, std::size_t room) {
        const Parsed p = area.parse();
        std::string name(room, 'x');
        qcow2_data_file_name(area.bytes().data(), area.bytes().size(), &p.geometry, name.data(), room);
        return std::string(name.c_str());
    };
    HeaderArea area(3);
    CHECK(name_of(area, 8).empty());
    const std::vector<std::uint8_t> data{'d', 'a', 't', 'a'};
    area.extension(some_type, std::size_t{5}).extension(QCOW2_EXT_DATA_FILE, data);
    CHECK(name_of(area, 8) == "data");
    CHECK(name_of(area, 5) == "data");
    CHECK(name_of(area, 3) == "da");
    CHECK(name_of(area, 1).empty());
}
