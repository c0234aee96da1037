// SPDX-License-Identifier: GPL-2.0-only
// Bitmaps: the target writes to those that record, and must not be had to write to anything else; it keeps its hands
// off all others, whatever they say.
#include "cases.hpp"

namespace hostile {

using namespace format;

namespace {

// Where the image has free clusters.
std::uint64_t directory(const Image &i)
{
    return i.snapshot_table();
}

std::uint64_t table(const Image &i)
{
    return i.snapshot_l1();
}

// A valid bitmap that records; returns where the data of the extension is.
std::uint64_t add_bitmap(Image &i)
{
    for (const std::uint64_t at : {directory(i), table(i), i.free_cluster()}) {
        for (std::uint64_t n = 0; n < i.cluster(); n++)
            i.put8(at + n, 0);
        i.set_refcount(at, 1);
    }
    i.put64(h_autoclear, autoclear_bitmaps);
    const std::uint64_t data = i.add_extension(ext_bitmaps, Bytes(x_end));
    i.put32(data + x_nb_bitmaps, 1);
    i.put64(data + x_directory_size, 32);
    i.put64(data + x_directory_offset, directory(i));
    i.put64(directory(i) + b_table_offset, table(i));
    i.put32(directory(i) + b_table_size, 1);
    i.put32(directory(i) + b_flags, bitmap_auto);
    i.put8(directory(i) + b_type, 1);
    i.put8(directory(i) + b_granularity_bits, 12);
    i.put16(directory(i) + b_name_size, 1);
    i.put8(directory(i) + b_name, 'b');
    i.put64(table(i), i.free_cluster());
    return data;
}

constexpr auto why = "bitmap";

void add_extensions(Catalogue &catalogue)
{
    const auto put = [&](const std::string &name, void (Image::*put_it)(std::uint64_t, std::uint64_t),
                         std::uint64_t field, std::uint64_t value, Expect expect = Expect::refuse) {
        catalogue.add("bitmaps-" + name, expect, why, v3, [=](Image &i) { (i.*put_it)(add_bitmap(i) + field, value); });
    };
    put("none", &Image::put32, x_nb_bitmaps, 0, Expect::refuse_or_io);
    put("more-than-there-are", &Image::put32, x_nb_bitmaps, 2);
    put("65536", &Image::put32, x_nb_bitmaps, 65536);
    put("all-ones", &Image::put32, x_nb_bitmaps, 0xffffffff);
    put("directory-of-0", &Image::put64, x_directory_size, 0);
    put("directory-of-23", &Image::put64, x_directory_size, 23);
    put("directory-of-more-than-64-mib", &Image::put64, x_directory_size, (1024ULL * 65535) + 1);
    put("directory-that-wraps", &Image::put64, x_directory_size, ~0ULL - 7);
    put("directory-at-0", &Image::put64, x_directory_offset, 0);
    put("directory-unaligned", &Image::put64, x_directory_offset, 4 * 4096 + 8);
    put("directory-beyond-the-end", &Image::put64, x_directory_offset, 1ULL << 40);
    put("directory-sign-bit", &Image::put64, x_directory_offset, 1ULL << 63);
    put("directory-at-all-ones", &Image::put64, x_directory_offset, ~0ULL - 4095);
    // Read as a directory, that table has no bitmap that records, and nothing is written.
    put("directory-on-l1", &Image::put64, x_directory_offset, 3 * 4096, Expect::refuse_or_io);
}

// What is wrong with one that records is no matter for one that does not; QEMU refuses either.
void add_field(Catalogue &catalogue, const std::string &name, void (Image::*put)(std::uint64_t, std::uint64_t),
               std::uint64_t field, std::uint64_t value)
{
    const auto make = [=](Image &i, std::uint32_t flags) {
        add_bitmap(i);
        i.put32(directory(i) + b_flags, flags);
        (i.*put)(directory(i) + field, value);
    };
    catalogue.add("bitmap-" + name, Expect::refuse, why, v3, [=](Image &i) { make(i, bitmap_auto); });
    catalogue.add("bitmap-disabled-" + name, Expect::refuse_or_io, "", v3, [=](Image &i) { make(i, 0); });
    catalogue.add("bitmap-in-use-" + name, Expect::refuse_or_io, "", v3,
                  [=](Image &i) { make(i, bitmap_auto | bitmap_in_use); });
}

void add_fields(Catalogue &catalogue)
{
    add_field(catalogue, "type-0", &Image::put8, b_type, 0);
    add_field(catalogue, "type-255", &Image::put8, b_type, 255);
    add_field(catalogue, "granularity-1", &Image::put8, b_granularity_bits, 0);
    add_field(catalogue, "granularity-256", &Image::put8, b_granularity_bits, 8);
    add_field(catalogue, "granularity-4-gib", &Image::put8, b_granularity_bits, 32);
    add_field(catalogue, "granularity-64-bits", &Image::put8, b_granularity_bits, 64);
    add_field(catalogue, "granularity-all-ones", &Image::put8, b_granularity_bits, 255);
    add_field(catalogue, "table-at-0", &Image::put64, b_table_offset, 0);
    add_field(catalogue, "table-unaligned", &Image::put64, b_table_offset, 5 * 4096 + 512);
    add_field(catalogue, "table-beyond-the-end", &Image::put64, b_table_offset, 1ULL << 40);
    add_field(catalogue, "table-sign-bit", &Image::put64, b_table_offset, 1ULL << 63);
    add_field(catalogue, "table-at-all-ones", &Image::put64, b_table_offset, ~0ULL);
    add_field(catalogue, "table-of-0", &Image::put32, b_table_size, 0);
    add_field(catalogue, "table-over-512-mib", &Image::put32, b_table_size, (512U << 20 >> 12) + 1);
    add_field(catalogue, "table-all-ones", &Image::put32, b_table_size, 0xffffffff);
    // Where the directory, the refcount table and the L1 table are.
    add_field(catalogue, "table-on-the-directory", &Image::put64, b_table_offset, 4 * 4096);
    add_field(catalogue, "table-on-the-refcount-table", &Image::put64, b_table_offset, 1 * 4096);
    add_field(catalogue, "table-on-l1", &Image::put64, b_table_offset, 3 * 4096);
    catalogue.add("bitmap-unknown-flags", Expect::refuse, why, v3, [](Image &i) {
        add_bitmap(i);
        i.put32(directory(i) + b_flags, 0x80000002);
    });
    for (const auto &[field, value] : {std::pair{b_extra_size, 0xffffffffU}, std::pair{b_extra_size, 0x7ffffff0U}})
        catalogue.add("bitmap-extra-of-" + std::to_string(value), Expect::refuse, why, v3,
                      [field = field, value = value](Image &i) {
                          add_bitmap(i);
                          i.put32(directory(i) + field, value);
                      });
    catalogue.add("bitmap-extra-to-be-understood", Expect::refuse, why, v3, [](Image &i) {
        i.put64(add_bitmap(i) + x_directory_size, 40);
        i.put32(directory(i) + b_extra_size, 8);
    });
    catalogue.add("bitmap-name-of-64-kib", Expect::refuse, why, v3, [](Image &i) {
        add_bitmap(i);
        i.put16(directory(i) + b_name_size, 0xffff);
    });
}

void add_entries(Catalogue &catalogue)
{
    const auto entry = [&](const std::string &name, std::uint64_t (*value)(const Image &)) {
        catalogue.add("bitmap-data-" + name, Expect::refuse, why, v3, [value](Image &i) {
            add_bitmap(i);
            i.put64(table(i), value(i));
        });
    };
    entry("reserved-bit-1", [](const Image &) -> std::uint64_t { return 2; });
    entry("reserved-bit-63", [](const Image &i) -> std::uint64_t { return i.free_cluster() | 1ULL << 63; });
    entry("unaligned", [](const Image &i) { return i.free_cluster() + 512; });
    entry("beyond-the-end", [](const Image &) -> std::uint64_t { return 1ULL << 40; });
    entry("on-its-table", [](const Image &i) { return table(i); });
    entry("on-the-directory", [](const Image &i) { return directory(i); });
    entry("on-the-refcount-table", [](const Image &i) { return i.reftable(); });
    entry("on-a-refcount-block", [](const Image &i) { return i.refblock(); });
    entry("on-l1", [](const Image &i) { return i.l1(); });
    entry("on-l2", [](const Image &i) { return i.l2(); });
    catalogue.add("bitmap-data-on-guest-data", Expect::refuse_or_io, "", v3, [](Image &i) {
        add_bitmap(i);
        i.put64(table(i), i.data(Image::data_cluster));
        i.want_cluster(Image::data_cluster, Want::any);
    });
    // The allocator must not hand it out.
    catalogue.add("bitmap-data-without-reference", Expect::refuse_or_io, "", v3, [](Image &i) {
        add_bitmap(i);
        i.set_refcount(i.free_cluster(), 0);
        i.want_all(Want::any);
    });
    catalogue.add("bitmap-valid", Expect::ok, "", v3, [](Image &i) { add_bitmap(i); });
    catalogue.add("bitmap-all-ones", Expect::ok, "", v3, [](Image &i) {
        add_bitmap(i);
        i.put64(table(i), 1);
        i.set_refcount(i.free_cluster(), 0);
    });
}

} // namespace

void add_bitmap_cases(Catalogue &catalogue)
{
    add_extensions(catalogue);
    add_fields(catalogue);
    add_entries(catalogue);
}

} // namespace hostile
