// SPDX-License-Identifier: GPL-2.0-only
// What lies behind the header and its tables: snapshot entries, bitmaps, encryption, compressed and extended L2
// entries.
#include <catch2/catch.hpp>

#include "header_area.hpp"

#include <algorithm>
#include <cerrno>

using namespace liveblk::unit;

namespace {

// Bytes of numbers of the given widths, big-endian.
std::vector<std::uint8_t> numbers(std::initializer_list<std::pair<std::size_t, std::uint64_t>> fields)
{
    std::vector<std::uint8_t> bytes;
    for (const auto &[width, value] : fields)
        for (std::size_t i = width; i-- > 0;)
            bytes.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
    return bytes;
}

const std::vector<std::uint8_t> snapshot = numbers({{8, 0x1122334455660000},
                                                    {4, 0x01020304},
                                                    {2, 5},
                                                    {2, 6},
                                                    {4, 0xa1a2a3a4},
                                                    {4, 0xb1b2b3b4},
                                                    {8, 0xc1c2c3c4c5c6c7c8},
                                                    {4, 0xd1d2d3d4},
                                                    {4, 24}});
const std::vector<std::uint8_t> bitmap =
    numbers({{8, 0x1122334455660000}, {4, 77}, {4, 3}, {1, 1}, {1, 16}, {2, 9}, {4, 10}});

qcow2_geometry geometry(std::uint32_t cluster_bits, std::uint64_t incompat = 0)
{
    qcow2_geometry g{};
    g.version = 3;
    g.cluster_bits = cluster_bits;
    g.incompat = incompat;
    return g;
}

constexpr std::uint64_t compressed = 1ULL << 62;
constexpr std::uint64_t copied = 1ULL << 63;

} // namespace

TEST_CASE("a snapshot entry is read field by field, and written as it was", "[snapshots]")
{
    REQUIRE(snapshot.size() == QCOW2_SNAPSHOT_FIXED);
    const ExactBuffer buffer(snapshot);
    qcow2_snapshot s;
    qcow2_snapshot_parse(buffer.data(), &s);
    CHECK(s.l1_offset == 0x1122334455660000);
    CHECK(s.l1_size == 0x01020304);
    CHECK(s.id_size == 5);
    CHECK(s.name_size == 6);
    CHECK(s.date_sec == 0xa1a2a3a4);
    CHECK(s.date_nsec == 0xb1b2b3b4);
    CHECK(s.vm_clock_nsec == 0xc1c2c3c4c5c6c7c8);
    CHECK(s.vm_state_size == 0xd1d2d3d4);
    CHECK(s.extra_size == 24);
    CHECK(qcow2_snapshot_bytes(&s) == 40 + 24 + 5 + 6);
    std::vector<std::uint8_t> written(QCOW2_SNAPSHOT_FIXED);
    qcow2_snapshot_store(written.data(), &s);
    CHECK(written == snapshot);
}

TEST_CASE("a snapshot entry of the largest sizes does not overflow", "[snapshots]")
{
    qcow2_snapshot s{};
    s.extra_size = UINT32_MAX;
    s.id_size = s.name_size = UINT16_MAX;
    CHECK(qcow2_snapshot_bytes(&s) == 40ULL + UINT32_MAX + 2 * UINT16_MAX);
}

TEST_CASE("of extra data there may be less or more than is known", "[snapshots]")
{
    const auto all = numbers({{8, 11}, {8, 22}, {8, 33}, {8, 44}});
    for (std::size_t length = 0; length <= all.size(); length++) {
        const ExactBuffer buffer{std::span(all).first(length)};
        qcow2_snapshot_extra extra{};
        const int fields = qcow2_snapshot_extra_parse(buffer.data(), buffer.size(), &extra);
        CAPTURE(length);
        CHECK(fields == static_cast<int>(std::min<std::size_t>(length / 8, 3)));
        CHECK(extra.vm_state_size == (fields >= 1 ? 11 : 0));
        CHECK(extra.disk_size == (fields >= 2 ? 22 : 0));
        CHECK(extra.icount == (fields >= 3 ? 33 : 0));
    }
    qcow2_snapshot_extra none{};
    CHECK(qcow2_snapshot_extra_parse(nullptr, 0, &none) == 0);
    const qcow2_snapshot_extra extra{.vm_state_size = 11, .disk_size = 22, .icount = 33};
    std::vector<std::uint8_t> written(QCOW2_SNAPSHOT_EXTRA);
    qcow2_snapshot_extra_store(written.data(), &extra);
    CHECK(std::equal(written.begin(), written.end(), all.begin()));
}

TEST_CASE("a bitmap directory entry ends in the directory or is none", "[bitmaps]")
{
    std::vector<std::uint8_t> directory = bitmap;
    directory.resize(24 + 10 + 9);
    const ExactBuffer whole(directory);
    qcow2_bitmap b{};
    CHECK(qcow2_bitmap_parse(whole.data(), whole.size(), &b) == 48);
    CHECK(b.table_offset == 0x1122334455660000);
    CHECK(b.table_size == 77);
    CHECK(b.flags == 3);
    CHECK(b.type == 1);
    CHECK(b.granularity_bits == 16);
    CHECK(b.name_size == 9);
    CHECK(b.extra_size == 10);
    for (std::size_t length = 0; length < directory.size(); length++) {
        const ExactBuffer part{std::span(directory).first(length)};
        CAPTURE(length);
        CHECK(qcow2_bitmap_parse(part.data(), part.size(), &b) == -EINVAL);
    }
    CHECK(qcow2_bitmap_entry_valid(0));
    CHECK(qcow2_bitmap_entry_valid(1));
    CHECK(qcow2_bitmap_entry_valid(0x00fffffffffffe00));
    for (unsigned n = 0; n < 64; n++)
        CHECK(qcow2_bitmap_entry_valid(1ULL << n) == (n == 0 || (n >= 9 && n <= 55)));
}

TEST_CASE("extensions that point elsewhere are read if they are whole", "[extensions]")
{
    const auto bitmaps = numbers({{4, 3}, {4, 0}, {8, 0x120}, {8, 0x50000}});
    const auto crypto = numbers({{8, 0x60000}, {8, 0x1000}});
    for (std::size_t length = 0; length <= bitmaps.size(); length++) {
        const ExactBuffer buffer{std::span(bitmaps).first(length)};
        qcow2_bitmaps b{};
        CHECK(qcow2_bitmaps_parse(buffer.data(), length, &b) == (length < 24 ? -EINVAL : 0));
        CHECK(b.nb_bitmaps == (length < 24 ? 0 : 3));
        CHECK(b.directory_size == (length < 24 ? 0 : 0x120));
        CHECK(b.directory_offset == (length < 24 ? 0 : 0x50000));
    }
    for (std::size_t length = 0; length <= crypto.size(); length++) {
        const ExactBuffer buffer{std::span(crypto).first(length)};
        decltype(qcow2_bitmaps::directory_offset) offset = 0;
        decltype(qcow2_bitmaps::directory_offset) bytes = 0;
        CHECK(qcow2_crypto_parse(buffer.data(), length, &offset, &bytes) == (length < 16 ? -EINVAL : 0));
        CHECK(offset == (length < 16 ? 0 : 0x60000));
        CHECK(bytes == (length < 16 ? 0 : 0x1000));
    }
}

TEST_CASE("a compressed cluster takes whole sectors from its first on", "[entries]")
{
    for (const std::uint32_t bits : {9U, 12U, 16U, 21U}) {
        const auto g = geometry(bits);
        const std::uint64_t offset = (3ULL << bits) + 777;
        const unsigned offset_bits = 62 - (bits - 8);
        for (const std::uint64_t more : {0ULL, 1ULL, (1ULL << (bits - 8)) - 1}) {
            decltype(qcow2_bitmaps::directory_offset) end = 0;
            CHECK(qcow2_compressed_place(&g, compressed | copied | more << offset_bits | offset, &end) == offset);
            CHECK(end == offset / 512 * 512 + (more + 1) * 512);
        }
    }
}

TEST_CASE("a compressed cluster lies in the image and not in the header", "[entries]")
{
    const auto g = geometry(16);
    const std::uint64_t limit = 8 << 16;
    CHECK_FALSE(qcow2_compressed_valid(&g, compressed | 0xffff, limit));
    CHECK(qcow2_compressed_valid(&g, compressed | 0x10000, limit));
    CHECK(qcow2_compressed_valid(&g, compressed | (limit - 1), limit));
    CHECK_FALSE(qcow2_compressed_valid(&g, compressed | 1ULL << 54 | (limit - 1), limit));
    CHECK_FALSE(qcow2_compressed_valid(&g, compressed | limit, limit));
    const auto with_data_file = geometry(16, QCOW2_INCOMPAT_DATA_FILE);
    CHECK_FALSE(qcow2_compressed_valid(&with_data_file, compressed | 0x10000, limit));
}

TEST_CASE("with a data file, COPIED tells its first cluster from none", "[entries]")
{
    const auto g = geometry(16, QCOW2_INCOMPAT_DATA_FILE);
    CHECK(qcow2_l2_entry_type(&g, copied, UINT64_MAX) == QCOW2_CLUSTER_NORMAL);
    CHECK(qcow2_l2_entry_type(&g, copied | 1, UINT64_MAX) == QCOW2_CLUSTER_ZERO_ALLOC);
    CHECK(qcow2_l2_entry_type(&g, 0, UINT64_MAX) == QCOW2_CLUSTER_UNALLOCATED);
    CHECK(qcow2_l2_entry_type(&g, 1, UINT64_MAX) == QCOW2_CLUSTER_ZERO_PLAIN);
}

TEST_CASE("an extended entry has its zeros in the second word", "[entries]")
{
    const auto g = geometry(16, QCOW2_INCOMPAT_EXTL2);
    CHECK(qcow2_l2_entry_type(&g, 1, 8 << 16) == QCOW2_CLUSTER_INVALID);
    CHECK(qcow2_l2_entry_type(&g, 0x20000, 8 << 16) == QCOW2_CLUSTER_NORMAL);
    CHECK(qcow2_subclusters_valid(&g, 0x20000, 0x00000000ffffffff));
    CHECK(qcow2_subclusters_valid(&g, 0x20000, 0x00ff00ff0f00ff00));
    CHECK(qcow2_subclusters_valid(&g, 0, 0xffffffff00000000));
    CHECK_FALSE(qcow2_subclusters_valid(&g, 0x20000, 0x0000000100000001));
    CHECK_FALSE(qcow2_subclusters_valid(&g, 0x20000, 0x8000000080000000));
    CHECK(qcow2_subclusters_valid(&g, compressed | 0x20000, 0));
    CHECK_FALSE(qcow2_subclusters_valid(&g, compressed | 0x20000, 1));
    CHECK_FALSE(qcow2_subclusters_valid(&g, compressed | 0x20000, 1ULL << 63));
}

TEST_CASE("no subcluster is allocated where there is no host cluster", "[entries]")
{
    const auto g = geometry(16, QCOW2_INCOMPAT_EXTL2);
    CHECK_FALSE(qcow2_subclusters_valid(&g, 0, 1));
    CHECK_FALSE(qcow2_subclusters_valid(&g, 0, 0xffff000080000000));
    const auto with_data_file = geometry(16, QCOW2_INCOMPAT_EXTL2 | QCOW2_INCOMPAT_DATA_FILE);
    CHECK(qcow2_subclusters_valid(&with_data_file, copied, 1));
    CHECK_FALSE(qcow2_subclusters_valid(&with_data_file, 0, 1));
}

TEST_CASE("a range of subclusters is a bit for each, in either half", "[entries]")
{
    CHECK(qcow2_sub_range(0, 0) == 1);
    CHECK(qcow2_sub_range(0, 31) == QCOW2_SUB_DATA);
    CHECK(qcow2_sub_range(31, 31) == 0x80000000);
    CHECK(qcow2_sub_range(4, 7) == 0xf0);
    CHECK(qcow2_sub_zeros(qcow2_sub_range(4, 7)) == 0xf000000000);
    CHECK(qcow2_sub_zeros(QCOW2_SUB_DATA) == QCOW2_SUB_ZERO);
    for (const std::uint32_t bits : {14U, 16U, 21U}) {
        const auto g = geometry(bits, QCOW2_INCOMPAT_EXTL2);
        CHECK(1U << qcow2_subcluster_bits(&g) == qcow2_cluster_size(&g) / 32);
    }
}

TEST_CASE("all that is wrong with a header is listed", "[header]")
{
    HeaderArea area(3);
    qcow2_geometry g;
    CHECK(qcow2_header_inspect(area.bytes().data(), area.bytes().size(), &g) == 0);
    area.set(field::header_length, 108)
        .set(field::refcount_order, 7)
        .set(field::size, 511)
        .set(field::snapshots_offset, 1);
    area.set(field::nb_snapshots, 1)
        .set(field::incompatible_features, QCOW2_INCOMPAT_EXTL2)
        .set(field::crypt_method, 2);
    CHECK(
        qcow2_header_inspect(area.bytes().data(), area.bytes().size(), &g) ==
        (QCOW2_FAULT_HEADER_LENGTH_ODD | QCOW2_FAULT_REFCOUNT_ORDER | QCOW2_FAULT_SIZE | QCOW2_FAULT_SNAPSHOTS_OFFSET));
    CHECK(g.crypt_method == 2);
    HeaderArea small(3, 12);
    small.set(field::incompatible_features, QCOW2_INCOMPAT_EXTL2).set(field::l1_size, 8);
    CHECK(qcow2_header_inspect(small.bytes().data(), small.bytes().size(), &g) == QCOW2_FAULT_EXTL2_CLUSTERS);
    CHECK(g.l2_bits == 8);
}

TEST_CASE("what is written of a header is what a tool may change", "[header]")
{
    for (const std::uint32_t version : {2U, 3U}) {
        HeaderArea area(version);
        qcow2_geometry g;
        REQUIRE(qcow2_header_inspect(area.bytes().data(), area.bytes().size(), &g) == 0);
        g.size += 512;
        g.l1_size++;
        g.l1_offset = 0x70000;
        g.nb_snapshots = 4;
        g.snapshots_offset = 0x80000;
        g.incompat = QCOW2_INCOMPAT_DIRTY;
        g.autoclear = 2;
        std::vector<std::uint8_t> bytes(area.bytes().begin(), area.bytes().end());
        qcow2_header_store(bytes.data(), &g);
        HeaderArea wanted(version);
        wanted.set(field::size, g.size).set(field::l1_size, g.l1_size).set(field::l1_table_offset, g.l1_offset);
        wanted.set(field::nb_snapshots, 4).set(field::snapshots_offset, 0x80000);
        if (version == 3)
            wanted.set(field::incompatible_features, g.incompat).set(field::autoclear_features, g.autoclear);
        CHECK(std::equal(bytes.begin(), bytes.end(), wanted.bytes().begin(), wanted.bytes().end()));
    }
}

namespace {

struct Below {
    bool there;
    std::string name, format;
};

Below below(const HeaderArea &area, std::size_t length)
{
    const ExactBuffer bytes(area.bytes().first(length));
    qcow2_geometry g;
    qcow2_backing b;
    REQUIRE(qcow2_header_inspect(bytes.data(), bytes.size(), &g) == 0);
    qcow2_backing_parse(bytes.data(), bytes.size(), &g, &b);
    return {qcow2_has_backing(&g), b.name, b.format};
}

void put_text(HeaderArea &area, std::size_t at, std::string_view text)
{
    for (const char c : text)
        area.put(at++, 1, static_cast<unsigned char>(c));
}

} // namespace

TEST_CASE("of the backing file a header says the name and the format", "[extensions]")
{
    const std::string long_format(64, 'q'), longest(1023, 'n');
    HeaderArea area(3);
    CHECK_FALSE(below(area, area.bytes().size()).there);
    area.extension(QCOW2_EXT_BACKING_FORMAT, std::vector<std::uint8_t>{'r', 'a', 'w'});
    area.set(field::backing_file_offset, 0x1000).set(field::backing_file_size, 8);
    put_text(area, 0x1000, "base.imgmore");
    const Below found = below(area, area.bytes().size());
    CHECK(found.there);
    CHECK(found.name == "base.img");
    CHECK(found.format == "raw");
    // What is not in the bytes that were read is cut.
    CHECK(below(area, 0x1004).name == "base");
    CHECK(below(area, 0x1000).name.empty());
    area.set(field::backing_file_size, 1023);
    put_text(area, 0x1000, longest);
    CHECK(below(area, area.bytes().size()).name == longest);
    area.set(field::backing_file_size, 0);
    CHECK_FALSE(below(area, area.bytes().size()).there);

    HeaderArea odd(3);
    odd.extension(QCOW2_EXT_BACKING_FORMAT, std::vector<std::uint8_t>(long_format.begin(), long_format.end()));
    odd.set(field::backing_file_offset, 0x1000).set(field::backing_file_size, 4);
    CHECK(below(odd, odd.bytes().size()).format == long_format.substr(0, 15));
}

TEST_CASE("a backing file name lies in the first cluster", "[extensions]")
{
    HeaderArea area(3, 12);
    qcow2_geometry g;
    qcow2_extension bad;
    const auto faults = [&](std::uint64_t offset, std::uint64_t size) {
        area.set(field::backing_file_offset, offset).set(field::backing_file_size, size);
        REQUIRE(qcow2_header_inspect(area.bytes().data(), area.bytes().size(), &g) == 0);
        return qcow2_extensions_check(area.bytes().data(), area.bytes().size(), &g, &bad);
    };
    CHECK(faults(3073, 1023) == 0);
    CHECK(faults(3073, 1024) == QCOW2_FAULT_BACKING_LENGTH);
    CHECK(faults(3074, 1023) == QCOW2_FAULT_BACKING_LENGTH);
    CHECK(faults(4096, 0) == 0);
    CHECK(faults(4097, 0) == QCOW2_FAULT_BACKING_PLACE);
    CHECK(faults(100, 1) == QCOW2_FAULT_BACKING_PLACE);
}
