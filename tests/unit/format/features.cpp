// SPDX-License-Identifier: GPL-2.0-only
// Feature bits: their names, and what is refused by name.
#include <catch2/catch.hpp>

#include "header_area.hpp"

#include <cerrno>
#include <cstring>

using namespace liveblk::unit;
using Catch::Matchers::Contains;

namespace {

struct Name {
    int result;
    std::string text;
};

// A buffer of exactly @room bytes: a sanitizer would see more written.
Name name_of(const HeaderArea &area, unsigned type, unsigned bit, std::size_t room = 48, std::size_t length = 0)
{
    const ExactBuffer buffer(length ? area.bytes().first(length) : area.bytes());
    const Parsed parsed = area.parse();
    const auto name = std::make_unique<char[]>(room);

    REQUIRE(parsed.result == 0);
    std::memset(name.get(), 0x7f, room);
    const int result = qcow2_feature_name(buffer.data(), buffer.size(), &parsed.geometry, type, bit, name.get(), room);
    REQUIRE(std::memchr(name.get(), 0, room));
    return {result, name.get()};
}

std::vector<std::uint8_t> table(std::initializer_list<std::vector<std::uint8_t>> rows)
{
    std::vector<std::uint8_t> all;
    for (const auto &row : rows)
        all.insert(all.end(), row.begin(), row.end());
    return all;
}

} // namespace

TEST_CASE("bits of the specification have names without a table", "[features]")
{
    const HeaderArea area(3);
    const char *const incompatible[] = {"dirty", "corrupt", "data file", "compression", "extended L2"};
    for (unsigned bit = 0; bit < 64; bit++) {
        CAPTURE(bit);
        const Name n = name_of(area, 0, bit);
        if (bit < 5) {
            CHECK(n.result == 0);
            CHECK_THAT(n.text, Contains(incompatible[bit]));
        } else {
            CHECK(n.result == -ENOENT);
            CHECK(n.text == "unknown");
        }
    }
}

TEST_CASE("the image's own names come first, by type and bit", "[features]")
{
    HeaderArea area(3);
    area.extension(0x11223344, std::size_t{5});
    area.extension(QCOW2_EXT_FEATURE_TABLE, table({feature_row(0, 63, "the last"), feature_row(1, 63, "compatible one"),
                                                   feature_row(2, 63, "autoclear one"), feature_row(0, 1, "ruined"),
                                                   feature_row(0, 63, "late")}));
    area.extension(QCOW2_EXT_END, std::size_t{0});
    CHECK(name_of(area, 0, 63).text == "the last");
    CHECK(name_of(area, 1, 63).text == "compatible one");
    CHECK(name_of(area, 2, 63).text == "autoclear one");
    CHECK(name_of(area, 0, 1).text == "ruined");
    CHECK(name_of(area, 0, 1).result == 0);
    CHECK_THAT(name_of(area, 0, 0).text, Contains("dirty"));
    CHECK(name_of(area, 0, 62).text == "unknown");
    CHECK(name_of(area, 1, 0).text == "lazy refcounts");
    CHECK(name_of(area, 1, 1).text == "unknown");
    CHECK(name_of(area, 2, 0).text == "bitmaps");
    CHECK(name_of(area, 2, 2).text == "unknown");
    CHECK(name_of(area, 3, 63).result == -ENOENT);
}

TEST_CASE("a second table is looked into as well", "[features]")
{
    HeaderArea area(3);
    area.extension(QCOW2_EXT_FEATURE_TABLE, feature_row(0, 40, "first table"));
    area.extension(QCOW2_EXT_FEATURE_TABLE, feature_row(0, 41, "second table"));
    CHECK(name_of(area, 0, 40).text == "first table");
    CHECK(name_of(area, 0, 41).text == "second table");
}

TEST_CASE("an incomplete row is no row", "[features]")
{
    const auto row = feature_row(0, 40, "a name");
    for (std::size_t length = 0; length <= 48; length++) {
        CAPTURE(length);
        HeaderArea area(3);
        area.extension(QCOW2_EXT_FEATURE_TABLE, std::span(row).first(length));
        CHECK(name_of(area, 0, 40).text == (length == 48 ? "a name" : "unknown"));
    }
}

TEST_CASE("a row without a name does not hide the known one", "[features]")
{
    HeaderArea area(3);
    area.extension(QCOW2_EXT_FEATURE_TABLE, table({feature_row(0, 0, ""), feature_row(0, 40, "")}));
    CHECK_THAT(name_of(area, 0, 0).text, Contains("dirty"));
    CHECK(name_of(area, 0, 40).text == "unknown");
}

TEST_CASE("a name that fills its field and one that is not printable are made safe", "[features]")
{
    HeaderArea area(3);
    const std::string full(46, 'x');
    std::string ugly;
    for (unsigned c = 1; c < 32; c++)
        ugly += static_cast<char>(c);
    ugly += "\x7f\x80\xff ok~";
    area.extension(QCOW2_EXT_FEATURE_TABLE, table({feature_row(0, 40, full), feature_row(0, 41, ugly)}));
    CHECK(name_of(area, 0, 40).text == full);
    CHECK(name_of(area, 0, 41).text == std::string(34, '?').append(" ok~"));
}

TEST_CASE("a name is cut to the room there is", "[features]")
{
    HeaderArea area(3);
    area.extension(QCOW2_EXT_FEATURE_TABLE, feature_row(0, 40, std::string(46, 'x')));
    for (std::size_t room = 1; room <= 48; room++) {
        CAPTURE(room);
        CHECK(name_of(area, 0, 40, room).text == std::string(std::min<std::size_t>(room - 1, 46), 'x'));
        CHECK(name_of(area, 0, 0, room).text.size() < room);
        CHECK(name_of(area, 1, 7, room).text.size() < room);
    }
}

TEST_CASE("a table that the image does not hold whole is not read past its end", "[features]")
{
    HeaderArea area(3);
    area.extension(QCOW2_EXT_FEATURE_TABLE, table({feature_row(0, 40, "one"), feature_row(0, 41, "two")}));
    const std::size_t end = v3_length + 8 + 96;
    for (std::size_t length = v3_length; length <= end + 8; length++) {
        CAPTURE(length);
        CHECK(name_of(area, 0, 40, 48, length).text == (length >= end ? "one" : "unknown"));
    }
}

TEST_CASE("each incompatible bit is refused by number and name, or allowed", "[features]")
{
    HeaderArea named(3);
    named.extension(QCOW2_EXT_FEATURE_TABLE, feature_row(0, 50, "flux capacitor"));
    for (unsigned bit = 0; bit < 64; bit++) {
        HeaderArea area(named);
        area.set(field::incompatible_features, 1ULL << bit).set(field::l1_size, 8);
        for (const bool read_only : {false, true}) {
            CAPTURE(bit, read_only);
            const Verdict v = supported(area, read_only);
            if (bit < 2) {
                // Dirty and corrupt images can be looked at.
                CHECK(v.result == (read_only ? 0 : -EUCLEAN));
                if (!read_only)
                    CHECK_THAT(v.why, Contains("qemu-img check -r all"));
                continue;
            }
            if (1ULL << bit == QCOW2_INCOMPAT_COMPRESSION) {
                // The type, which is zlib here, is what has it.
                CHECK(v.result == -EINVAL);
                continue;
            }
            if (1ULL << bit == QCOW2_INCOMPAT_DATA_FILE) {
                // Whether there is one to be used is for the table to say.
                CHECK(v.result == 0);
                continue;
            }
            if (1ULL << bit == QCOW2_INCOMPAT_EXTL2) {
                CHECK(v.result == 0);
                continue;
            }
            CHECK(v.result == -EOPNOTSUPP);
            CHECK_THAT(v.why, Contains("incompatible feature " + std::to_string(bit) + " ("));
            if (bit == 50)
                CHECK_THAT(v.why, Contains("(flux capacitor)"));
            else if (bit > 4)
                CHECK_THAT(v.why, Contains("(unknown)"));
        }
    }
}

TEST_CASE("compression types are taken with their feature bit, as far as there are decoders", "[features]")
{
    for (unsigned type = 0; type < 256; type++) {
        CAPTURE(type);
        HeaderArea area(3);
        area.set(field::header_length, 112).set(field::compression_type, type);
        if (type)
            area.set(field::incompatible_features, QCOW2_INCOMPAT_COMPRESSION);
        const Verdict v = supported(area, false);
        CHECK(v.result == (type <= QCOW2_COMPRESSION_ZSTD ? 0 : -EOPNOTSUPP));
        if (v.result)
            CHECK_THAT(v.why, Contains("compression type " + std::to_string(type) + " is not supported"));
    }
    HeaderArea area(3);
    area.set(field::header_length, 112).set(field::incompatible_features, QCOW2_INCOMPAT_COMPRESSION);
    CHECK(supported(area, true).result == -EINVAL);
    CHECK_THAT(supported(area, true).why, Contains("the type is 0 (zlib)"));
}

TEST_CASE("an unknown bit is named before the dirty one", "[features]")
{
    HeaderArea area(3);
    area.set(field::incompatible_features, 1ULL << 33 | QCOW2_INCOMPAT_DIRTY);
    CHECK(supported(area, true).result == -EOPNOTSUPP);
    CHECK_THAT(supported(area, false).why, Contains("feature 33"));
}

TEST_CASE("compatible and autoclear bits refuse nothing", "[features]")
{
    for (unsigned bit = 0; bit < 64; bit++) {
        CAPTURE(bit);
        HeaderArea area(3);
        area.set(field::compatible_features, 1ULL << bit).set(field::autoclear_features, 1ULL << (63 - bit));
        CHECK(supported(area, false).result == 0);
        CHECK(supported(area, true).result == 0);
    }
}

TEST_CASE("clusters smaller than a block of metadata are refused", "[features]")
{
    for (const std::uint32_t version : {2U, 3U}) {
        for (std::uint32_t bits = 9; bits <= 21; bits++) {
            CAPTURE(version, bits);
            const Verdict v = supported(HeaderArea(version, bits), false);
            CHECK(v.result == (bits < 12 ? -EOPNOTSUPP : 0));
            if (bits < 12)
                CHECK_THAT(v.why, Contains("cluster size " + std::to_string(1U << bits)));
        }
    }
}

TEST_CASE("a backing file is the table's matter", "[features]")
{
    for (const std::uint32_t version : {2U, 3U}) {
        for (const bool read_only : {false, true}) {
            HeaderArea area(version);
            area.set(field::backing_file_offset, 0x200).set(field::backing_file_size, 8);
            CHECK(supported(area, read_only).result == 0);
        }
    }
}
