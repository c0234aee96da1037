// SPDX-License-Identifier: GPL-2.0-only
// L1 and L2 entries that point where they must not.
#include "cases.hpp"

namespace hostile {

using namespace format;

namespace {

// An entry's value, made from the image.
struct Entry {
    const char *name;
    std::uint64_t (*value)(const Image &);
};

std::uint64_t aligned_end(const Image &i)
{
    return (i.end() + i.cluster() - 1) / i.cluster() * i.cluster();
}

// Offsets that cannot hold a table or data whatever the kind of the entry.
constexpr Entry nowhere[] = {
    {"end-of-file", [](const Image &i) -> std::uint64_t { return aligned_end(i) | copied; }},
    {"after-the-end", [](const Image &i) -> std::uint64_t { return (aligned_end(i) + i.cluster()) | copied; }},
    {"2-to-the-40", [](const Image &) -> std::uint64_t { return 1ULL << 40 | copied; }},
    {"2-to-the-55", [](const Image &) -> std::uint64_t { return 1ULL << 55 | copied; }},
    {"largest", [](const Image &i) -> std::uint64_t { return (offset_mask & ~(i.cluster() - 1)) | copied; }},
    {"off-by-a-sector", [](const Image &i) -> std::uint64_t { return (i.free_cluster() + 512) | copied; }},
    {"off-by-half", [](const Image &i) -> std::uint64_t { return (i.free_cluster() + i.cluster() / 2) | copied; }},
};

// Metadata that the target must know.
constexpr Entry metadata[] = {
    {"reftable", [](const Image &i) -> std::uint64_t { return i.reftable() | copied; }},
    {"refblock", [](const Image &i) -> std::uint64_t { return i.refblock() | copied; }},
    {"l1", [](const Image &i) -> std::uint64_t { return i.l1() | copied; }},
};

constexpr Entry snapshot_metadata[] = {
    {"snapshot-table", [](const Image &i) -> std::uint64_t { return i.snapshot_table() | copied; }},
    {"snapshot-l1", [](const Image &i) -> std::uint64_t { return i.snapshot_l1() | copied; }},
};

void set_l1(Image &image, std::uint64_t index, std::uint64_t value)
{
    image.put64(image.l1_entry(index), value);
    image.want_l2(index, Want::fails);
}

Case &add_bad_l1(Catalogue &catalogue, const std::string &name, const Geometry &geometry,
                 std::uint64_t (*value)(const Image &), std::uint64_t index = 0)
{
    Case &c = catalogue.add("l1-entry-" + name, Expect::refuse_or_io, "", geometry,
                            [value, index](Image &i) { set_l1(i, index, value(i)); });
    return c;
}

void add_l1_reserved(Catalogue &catalogue)
{
    static constexpr unsigned bits[] = {0, 1, 5, 8, 56, 57, 60, 61, 62};
    for (unsigned bit : bits) {
        catalogue.add("l1-entry-reserved-bit-" + std::to_string(bit), Expect::refuse_or_io, "", v3,
                      [bit](Image &i) { set_l1(i, 0, i.l2() | copied | 1ULL << bit); });
    }
    add_bad_l1(catalogue, "all-ones", v3, [](const Image &) -> std::uint64_t { return ~0ULL; });
    add_bad_l1(catalogue, "flags-only", v3, [](const Image &) -> std::uint64_t { return ~offset_mask; });
}

void add_l1_strange(Catalogue &catalogue)
{
    // The header is a table of garbage, and offset 0 is how "no table" is written.
    catalogue.add("l1-entry-header", Expect::refuse_or_io, "", v3, [](Image &i) {
        set_l1(i, 0, copied);
        i.want_l2(0, Want::any);
    });
    catalogue
        .add("l1-entry-data-cluster", Expect::refuse_or_io, "", v3,
             [](Image &i) {
                 set_l1(i, 0, i.data(Image::data_cluster) | copied);
                 i.want_l2(0, Want::any);
             })
        .aliases = true;
    catalogue
        .add("l1-entry-free-cluster", Expect::refuse_or_io, "", v3,
             [](Image &i) {
                 set_l1(i, 0, i.free_cluster() | copied);
                 i.want_l2(0, Want::any);
             })
        .aliases = true;
    catalogue
        .add("l1-entries-alike", Expect::refuse_or_io, "", v3,
             [](Image &i) {
                 set_l1(i, 1, i.l2(0) | copied);
                 i.want_all(Want::any);
             })
        .aliases = true;
    catalogue
        .add("l1-entries-all-alike", Expect::refuse_or_io, "", v3,
             [](Image &i) {
                 i.put32(h_l1_size, 512);
                 for (std::uint64_t n = 0; n < 512; n++)
                     i.put64(i.l1_entry(n), i.l2(0) | copied);
                 i.want_all(Want::any);
             })
        .aliases = true;
    catalogue
        .add("l1-entry-copied-but-shared", Expect::io, "", v3_snapshot,
             [](Image &i) {
                 i.put64(i.l1_entry(0), i.l2(0) | copied);
                 i.want_all(Want::exact);
             })
        .aliases = true;
    catalogue.add("l1-entry-not-copied-of-one", Expect::ok, "", v3, [](Image &i) { i.put64(i.l1_entry(0), i.l2(0)); });
    catalogue.add("l1-entry-table-of-refcount-0", Expect::refuse_or_io, "", v3,
                  [](Image &i) { i.set_refcount(i.l2(0), 0); });
    catalogue.add("l1-entry-not-copied-of-0", Expect::refuse_or_io, "", v3, [](Image &i) {
        i.put64(i.l1_entry(0), i.l2(0));
        i.set_refcount(i.l2(0), 0);
    });
    // Entries behind the last one that the size needs are the format's to ignore.
    catalogue.add("l1-larger-than-needed", Expect::ok, "", v3, [](Image &i) { i.put32(h_l1_size, 512); });
    catalogue.add("l1-garbage-behind-the-last", Expect::refuse_or_io, "", v3, [](Image &i) {
        i.put32(h_l1_size, 512);
        for (std::uint64_t n = 2; n < 512; n++)
            i.put64(i.l1_entry(n), ~n);
    });
}

void set_l2(Image &image, std::uint64_t value, Want want = Want::fails)
{
    image.put64(image.l2_entry(Image::data_cluster), value);
    image.want_cluster(Image::data_cluster, want);
}

Case &add_bad_l2(Catalogue &catalogue, const std::string &name, const Geometry &geometry,
                 std::uint64_t (*value)(const Image &), Want want = Want::fails)
{
    Case &c = catalogue.add(name, Expect::io, "", geometry, [value, want](Image &i) { set_l2(i, value(i), want); });
    return c;
}

void add_l2_nowhere(Catalogue &catalogue)
{
    for (const Entry &e : nowhere) {
        add_bad_l2(catalogue, std::string("l2-entry-") + e.name, v3, e.value);
        add_bad_l2(catalogue, std::string("v2-l2-entry-") + e.name, v2, e.value);
        add_bad_l2(catalogue, std::string("64k-l2-entry-") + e.name, v3_64k, e.value);
    }
}

void add_l2_metadata(Catalogue &catalogue)
{
    for (const Entry &e : metadata) {
        add_bad_l2(catalogue, std::string("l2-entry-") + e.name, v3, e.value);
        add_bad_l2(catalogue, std::string("64k-l2-entry-") + e.name, v3_64k, e.value);
    }
    for (const Entry &e : snapshot_metadata)
        add_bad_l2(catalogue, std::string("l2-entry-") + e.name, v3_snapshot, e.value, Want::any);
    // Tables that were not read yet need not be known to a reader, but a writer must not hit them.
    add_bad_l2(
        catalogue, "l2-entry-itself", v3, [](const Image &i) -> std::uint64_t { return i.l2(0) | copied; }, Want::any);
    add_bad_l2(
        catalogue, "l2-entry-other-l2", v3, [](const Image &i) -> std::uint64_t { return i.l2(1) | copied; },
        Want::any);
    add_bad_l2(
        catalogue, "l2-entry-header", v3, [](const Image &) -> std::uint64_t { return copied; }, Want::any);
    add_bad_l2(
        catalogue, "v2-l2-entry-header", v2, [](const Image &) -> std::uint64_t { return copied; }, Want::any);
}

void add_l2_reserved(Catalogue &catalogue)
{
    static constexpr unsigned bits[] = {1, 2, 4, 8, 56, 58, 61};
    for (unsigned bit : bits)
        catalogue.add("l2-entry-reserved-bit-" + std::to_string(bit), Expect::io, "", v3,
                      [bit](Image &i) { set_l2(i, i.data(Image::data_cluster) | copied | 1ULL << bit); });
    add_bad_l2(catalogue, "v2-l2-entry-zero-flag", v2,
               [](const Image &i) -> std::uint64_t { return i.data(Image::data_cluster) | copied | zero_flag; });
    add_bad_l2(catalogue, "l2-entry-all-ones", v3, [](const Image &) -> std::uint64_t { return ~0ULL; });
    add_bad_l2(
        catalogue, "l2-entry-reserved-bits-only", v3,
        [](const Image &) -> std::uint64_t { return 0x3f000000000001feULL; }, Want::any);
}

// The zero flag hides the offset from readers, never from writers.
void add_l2_zero(Catalogue &catalogue)
{
    const auto hidden = [&](const std::string &name, std::uint64_t (*value)(const Image &)) {
        catalogue.add("l2-zero-with-" + name, Expect::io, "", v3,
                      [value](Image &i) { set_l2(i, value(i) | zero_flag, Want::any); });
    };
    for (const Entry &e : nowhere)
        hidden(e.name, e.value);
    for (const Entry &e : metadata)
        hidden(e.name, e.value);
    hidden("own-l2", [](const Image &i) -> std::uint64_t { return i.l2(0) | copied; });
    hidden("header", [](const Image &) -> std::uint64_t { return copied; });
    catalogue
        .add("l2-zero-shared-with-data", Expect::io, "", v3,
             [](Image &i) {
                 i.put64(i.l2_entry(Image::zero_cluster), i.data(Image::data_cluster) | copied | zero_flag);
                 i.want_cluster(Image::zero_cluster, Want::any);
                 i.want_cluster(Image::data_cluster, Want::any);
             })
        .aliases = true;
}

void add_l2_compressed(Catalogue &catalogue)
{
    add_bad_l2(catalogue, "l2-compressed-garbage", v3,
               [](const Image &i) -> std::uint64_t { return i.free_cluster() | compressed; });
    // With a reference it may be written over as a whole.
    catalogue.add("l2-compressed-damaged", Expect::io, "", v3, [](Image &i) {
        set_l2(i, i.free_cluster() | compressed, Want::any);
        i.set_refcount(i.free_cluster(), 1);
    });
    catalogue
        .add(
            "l2-compressed-on-data", Expect::io, "", v3,
            [](Image &i) { set_l2(i, (i.data(Image::other_data_cluster) + 100) | 7ULL << 58 | compressed, Want::any); })
        .aliases = true;
    add_bad_l2(catalogue, "l2-compressed-on-l2", v3,
               [](const Image &i) -> std::uint64_t { return (i.l2(0) + 100) | compressed; });
    add_bad_l2(catalogue, "l2-compressed-reaches-refblock", v3,
               [](const Image &i) -> std::uint64_t { return (i.refblock() - 100) | 1ULL << 58 | compressed; });
    add_bad_l2(catalogue, "l2-compressed-and-copied", v3,
               [](const Image &i) -> std::uint64_t { return i.free_cluster() | compressed | copied; });
    add_bad_l2(catalogue, "l2-compressed-header", v3, [](const Image &) -> std::uint64_t { return compressed; });
    add_bad_l2(catalogue, "l2-compressed-beyond-the-end", v3,
               [](const Image &) -> std::uint64_t { return (1ULL << 40) | compressed; });
    add_bad_l2(catalogue, "l2-compressed-runs-over-the-end", v3,
               [](const Image &i) -> std::uint64_t { return (i.end() - 512) | 7ULL << 58 | compressed; });
    add_bad_l2(catalogue, "l2-compressed-largest", v3,
               [](const Image &) -> std::uint64_t { return compressed - 1 + compressed; });
    add_bad_l2(catalogue, "v2-l2-compressed-garbage", v2,
               [](const Image &i) -> std::uint64_t { return i.free_cluster() | compressed; });
    add_bad_l2(catalogue, "64k-l2-compressed-garbage", v3_64k,
               [](const Image &i) -> std::uint64_t { return i.free_cluster() | compressed; });
}

void add_l2_shared(Catalogue &catalogue)
{
    catalogue
        .add("l2-entries-alike", Expect::io, "", v3,
             [](Image &i) {
                 set_l2(i, i.data(Image::other_data_cluster) | copied, Want::any);
                 i.want_cluster(Image::other_data_cluster, Want::any);
             })
        .aliases = true;
    catalogue
        .add("l2-entries-all-alike", Expect::io, "", v3,
             [](Image &i) {
                 std::uint64_t host = i.data(Image::data_cluster);
                 for (std::uint64_t k = 0; k < i.guest_clusters(); k++)
                     i.put64(i.l2_entry(k), host | copied);
                 i.want_all(Want::any);
             })
        .aliases = true;
    catalogue
        .add("l2-entry-free-cluster", Expect::io, "", v3,
             [](Image &i) { set_l2(i, i.free_cluster() | copied, Want::any); })
        .aliases = true;
    catalogue
        .add("l2-entry-free-and-not-copied", Expect::io, "", v3,
             [](Image &i) { set_l2(i, i.free_cluster(), Want::any); })
        .aliases = true;
    catalogue
        .add("l2-entry-copied-but-shared", Expect::io, "", v3_snapshot,
             [](Image &i) { i.put64(i.l2_entry(Image::data_cluster), i.data(Image::data_cluster) | copied); })
        .aliases = true;
    catalogue.add("l2-entry-not-copied-of-one", Expect::ok, "", v3,
                  [](Image &i) { i.put64(i.l2_entry(Image::data_cluster), i.data(Image::data_cluster)); });
    catalogue.add("l2-none-copied", Expect::ok, "", v3, [](Image &i) {
        for (std::uint64_t k = 0; k < i.guest_clusters(); k++)
            i.put64(i.l2_entry(k), i.get<std::uint64_t>(i.l2_entry(k)) & ~copied);
    });
    catalogue.add("l2-ones-everywhere", Expect::io, "", v3, [](Image &i) {
        for (std::uint64_t at = i.l2(0); at < i.l2(1); at++)
            i.put8(at, 0xff);
        i.want_l2(0, Want::fails);
    });
    catalogue
        .add("l2-noise-everywhere", Expect::io, "", v3,
             [](Image &i) {
                 fill_pattern({i.bytes.data() + i.l2(0), i.cluster()}, 77);
                 i.want_l2(0, Want::any);
             })
        .aliases = true;
}

void set_extended(Image &image, std::uint64_t entry, std::uint64_t bits)
{
    set_l2(image, entry);
    image.put64(image.l2_entry(Image::data_cluster) + entry_size, bits);
}

// The words of an extended entry that do not go together, and a first word that is wrong whatever the second says.
void add_l2_extended(Catalogue &catalogue)
{
    const auto words = [&](const std::string &name, std::uint64_t (*entry)(const Image &), std::uint64_t bits) {
        catalogue.add("extended-" + name, Expect::io, "", extended,
                      [entry, bits](Image &i) { set_extended(i, entry(i), bits); });
    };
    const auto own = [](const Image &i) -> std::uint64_t { return i.data(Image::data_cluster) | copied; };
    const auto none = [](const Image &) -> std::uint64_t { return 0; };
    const auto packed = [](const Image &i) -> std::uint64_t { return i.free_cluster() | compressed; };
    words("data-and-zeros", own, all_data | 1ULL << 32);
    words("last-data-and-zeros", own, 1ULL << 31 | 1ULL << 63);
    words("all-ones", own, ~0ULL);
    words(
        "zero-flag", [](const Image &i) -> std::uint64_t { return i.data(Image::data_cluster) | copied | zero_flag; },
        all_data);
    words(
        "zero-flag-alone", [](const Image &) -> std::uint64_t { return zero_flag; }, 0);
    words("data-without-cluster", none, 1);
    words("data-and-zeros-without-cluster", none, all_zeros >> 1);
    words("compressed-with-data", packed, all_data);
    words("compressed-with-zeros", packed, all_zeros);
    for (const Entry &e : nowhere)
        words(std::string("entry-") + e.name, e.value, all_data);
    for (const Entry &e : metadata) {
        words(std::string("entry-") + e.name, e.value, all_data);
        words(std::string("hole-on-") + e.name, e.value, 0);
    }
    // Holes and zeros of a cluster that is there read as zeros.
    catalogue.add("extended-hole-in-a-cluster", Expect::ok, "", extended, [](Image &i) {
        i.put64(i.l2_entry(Image::data_cluster) + entry_size, 0);
        i.want_zero(Image::data_cluster);
    });
    catalogue
        .add("extended-copied-but-shared", Expect::io, "", extended_snapshot,
             [](Image &i) { i.put64(i.l2_entry(Image::data_cluster), i.data(Image::data_cluster) | copied); })
        .aliases = true;
    catalogue.add("extended-ones-everywhere", Expect::io, "", extended, [](Image &i) {
        for (std::uint64_t at = i.l2(0); at < i.l2(1); at++)
            i.put8(at, 0xff);
        i.want_l2(0, Want::fails);
    });
}

} // namespace

void add_l1_cases(Catalogue &catalogue)
{
    for (const Entry &e : nowhere) {
        add_bad_l1(catalogue, e.name, v3, e.value);
        add_bad_l1(catalogue, std::string("second-") + e.name, v3, e.value, 1);
    }
    add_bad_l1(catalogue, "v2-end-of-file", v2, nowhere[0].value);
    add_bad_l1(catalogue, "v2-off-by-a-sector", v2, nowhere[5].value);
    add_bad_l1(catalogue, "64k-end-of-file", v3_64k, nowhere[0].value);
    add_bad_l1(catalogue, "64k-off-by-half", v3_64k, nowhere[6].value);
    for (const Entry &e : metadata)
        add_bad_l1(catalogue, e.name, v3, e.value);
    for (const Entry &e : snapshot_metadata)
        add_bad_l1(catalogue, e.name, v3_snapshot, e.value);
    add_l1_reserved(catalogue);
    add_l1_strange(catalogue);
}

void add_l2_cases(Catalogue &catalogue)
{
    add_l2_nowhere(catalogue);
    add_l2_metadata(catalogue);
    add_l2_reserved(catalogue);
    add_l2_zero(catalogue);
    add_l2_compressed(catalogue);
    add_l2_shared(catalogue);
    add_l2_extended(catalogue);
}

} // namespace hostile
