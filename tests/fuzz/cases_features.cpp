// SPDX-License-Identifier: GPL-2.0-only
// Feature bits, header extensions, and images that are valid whatever they look like.
#include "cases.hpp"

namespace hostile {

using namespace format;

namespace {

constexpr std::uint32_t unknown_extension = 0x4c424c4b;
constexpr std::size_t feature_entry_size = 48;

// An entry of the feature name table: type (0 incompatible, 1 compatible, 2 autoclear), bit, name.
Bytes feature_entry(std::uint8_t type, std::uint8_t bit, const std::string &name)
{
    Bytes entry(feature_entry_size);
    entry[0] = type;
    entry[1] = bit;
    for (std::size_t i = 0; i < name.size() && i + 2 < entry.size(); i++)
        entry[i + 2] = static_cast<std::uint8_t>(name[i]);
    return entry;
}

void add_incompatible(Catalogue &catalogue, const std::string &name, std::uint64_t bits, const std::string &reason)
{
    catalogue.add("incompatible-" + name, Expect::refuse, reason, v3,
                  [bits](Image &i) { i.put64(h_incompatible, bits); });
}

void add_known_incompatible(Catalogue &catalogue)
{
    add_incompatible(catalogue, "dirty", incompat_dirty, "(dirty|cleanly).*qemu-img check");
    add_incompatible(catalogue, "corrupt", incompat_corrupt, "corrupt");
    add_incompatible(catalogue, "data-file", incompat_data_file, "data file");
    add_incompatible(catalogue, "compression-without-type", incompat_compression, "compression");
    // Entries twice as large need twice as many L2 tables, and clusters of 16 KiB.
    catalogue.add("incompatible-extended-l2", Expect::refuse, "extended L2 entries need clusters of 16384", v3,
                  [](Image &i) {
                      i.put64(h_incompatible, incompat_extended_l2);
                      i.put32(h_l1_size, 2 * i.l2_tables());
                  });
    catalogue
        .add("extended-l1-as-of-short-entries", Expect::refuse, "L1 table", extended,
             [](Image &i) { i.put64(h_size, i.l2_entries() * i.cluster() + i.cluster()); })
        .table_sectors = (1024 + 1) * 32;
    add_incompatible(catalogue, "dirty-and-corrupt", incompat_dirty | incompat_corrupt, "dirty|cleanly|corrupt");
    add_incompatible(catalogue, "all", ~0ULL, "");
    const auto read_only = [&](const std::string &name, std::uint64_t bits) {
        catalogue
            .add("incompatible-" + name + "-read-only", Expect::ok, "", v3,
                 [bits](Image &i) { i.put64(h_incompatible, bits); })
            .read_only = true;
    };
    read_only("dirty", incompat_dirty);
    read_only("corrupt", incompat_corrupt);
    read_only("dirty-and-corrupt", incompat_dirty | incompat_corrupt);
    catalogue
        .add("incompatible-unknown-read-only", Expect::refuse, "incompatible|unknown|feature", v3,
             [](Image &i) { i.put64(h_incompatible, 1ULL << 40); })
        .read_only = true;
    // Version 2 has no feature bits: the place belongs to the extensions.
    catalogue.add("v2-no-feature-bits", Expect::ok, "", v2, [](Image &i) {
        i.put64(h_v2_end, 0);
        i.put64(h_compatible, ~0ULL);
        i.put64(h_autoclear, ~0ULL);
    });
}

void add_unknown_incompatible(Catalogue &catalogue)
{
    static constexpr unsigned bits[] = {5, 6, 7, 8, 15, 16, 31, 32, 47, 62, 63};
    for (unsigned bit : bits)
        add_incompatible(catalogue, "bit-" + std::to_string(bit), 1ULL << bit, "incompatible|unknown|feature");
    catalogue.add("incompatible-named", Expect::refuse, "time travel", v3, [](Image &i) {
        i.put64(h_incompatible, 1ULL << 42);
        i.add_extension(ext_feature_names, feature_entry(0, 42, "time travel"));
    });
    catalogue.add("incompatible-name-of-46-bytes", Expect::refuse, "nnnnnnnn", v3, [](Image &i) {
        i.put64(h_incompatible, 1ULL << 42);
        i.add_extension(ext_feature_names, feature_entry(0, 42, std::string(46, 'n')));
    });
    catalogue.add("incompatible-name-with-control-bytes", Expect::refuse, "", v3, [](Image &i) {
        i.put64(h_incompatible, 1ULL << 42);
        i.add_extension(ext_feature_names, feature_entry(0, 42, "a\nkernel: BUG\x1b[2J\xff"));
    });
    catalogue.add("incompatible-name-empty", Expect::refuse, "", v3, [](Image &i) {
        i.put64(h_incompatible, 1ULL << 42);
        i.add_extension(ext_feature_names, feature_entry(0, 42, ""));
    });
    catalogue.add("incompatible-name-of-another-type", Expect::refuse, "", v3, [](Image &i) {
        i.put64(h_incompatible, 1ULL << 42);
        i.add_extension(ext_feature_names, feature_entry(1, 42, "harmless"));
    });
}

void add_compression_type(Catalogue &catalogue)
{
    const auto typed = [&](const std::string &name, Expect expect, std::uint64_t bit, std::uint64_t type) {
        catalogue.add("compression-" + name, expect, "compression", v3, [bit, type](Image &i) {
            i.set_header_length(112);
            i.put64(h_incompatible, bit);
            i.put8(h_compression_type, type);
        });
    };
    typed("zlib-explicit", Expect::ok, 0, 0);
    typed("zstd", Expect::ok, incompat_compression, 1);
    typed("zstd-without-bit", Expect::refuse, 0, 1);
    typed("bit-with-zlib", Expect::refuse, incompat_compression, 0);
    typed("unknown", Expect::refuse, incompat_compression, 2);
    typed("unknown-without-bit", Expect::refuse, 0, 255);
}

void add_compatible(Catalogue &catalogue)
{
    const auto bits = [&](const std::string &name, std::uint64_t at, std::uint64_t value) {
        catalogue.add(name, Expect::ok, "", v3, [at, value](Image &i) { i.put64(at, value); });
    };
    bits("compatible-unknown", h_compatible, 1ULL << 40);
    bits("compatible-sign-bit", h_compatible, 1ULL << 63);
    bits("compatible-lazy-refcounts", h_compatible, compat_lazy_refcounts);
    bits("compatible-all", h_compatible, ~0ULL);
    bits("autoclear-bitmaps-without-extension", h_autoclear, autoclear_bitmaps);
    bits("autoclear-unknown", h_autoclear, 1ULL << 40);
    catalogue.add("autoclear-raw-without-data-file", Expect::refuse_or_io, "", v3,
                  [](Image &i) { i.put64(h_autoclear, 2); });
    catalogue.add("autoclear-all", Expect::refuse_or_io, "", v3, [](Image &i) { i.put64(h_autoclear, ~0ULL); });
}

// An extension whose header says something that its place does not allow.
void add_bad_extensions(Catalogue &catalogue)
{
    const auto raw = [&](const std::string &name, std::uint32_t type, std::uint32_t length) {
        catalogue.add("extension-" + name, Expect::refuse, "extension", v3, [type, length](Image &i) {
            i.put32(i.extension_end(), type);
            i.put32(i.extension_end() + 4, length);
        });
    };
    raw("over-the-cluster", unknown_extension, 4096);
    raw("just-over-the-cluster", unknown_extension, 4096 - h_v3_end - 8 + 1);
    raw("int-max", unknown_extension, 0x7fffffff);
    raw("sign-bit", unknown_extension, 0x80000000);
    raw("wraps", unknown_extension, 0xfffffff8);
    raw("all-ones", unknown_extension, 0xffffffff);
    raw("feature-names-over-the-cluster", ext_feature_names, 48 * 1000);
    raw("backing-format-over-the-cluster", ext_backing_format, 0x10000000);
    catalogue.add("v2-extension-over-the-cluster", Expect::refuse, "extension", v2, [](Image &i) {
        i.put32(i.extension_end(), unknown_extension);
        i.put32(i.extension_end() + 4, 0xfffff000);
    });
}

void add_odd_extensions(Catalogue &catalogue)
{
    const auto odd = [&](const std::string &name, std::function<void(Image &)> make) {
        catalogue.add("extension-" + name, Expect::refuse_or_io, "", v3, std::move(make));
    };
    odd("without-end", [](Image &i) { i.add_extension(unknown_extension, Bytes(4096 - h_v3_end - 8, 0x5a)); });
    odd("end-cut-in-half", [](Image &i) { i.set_header_length(4096 - 4); });
    for (std::size_t size : {1UL, 47UL, 49UL, 50UL})
        odd("feature-names-of-" + std::to_string(size),
            [size](Image &i) { i.add_extension(ext_feature_names, Bytes(size, 0x41)); });
    odd("end-with-length", [](Image &i) {
        i.put32(i.extension_end(), ext_end);
        i.put32(i.extension_end() + 4, 0xffffffff);
    });
    odd("crypto-without-crypt", [](Image &i) { i.add_extension(ext_crypto, Bytes(16, 0xff)); });
    odd("crypto-of-3-bytes", [](Image &i) { i.add_extension(ext_crypto, Bytes(3, 0xff)); });
    odd("data-file-name-without-bit", [](Image &i) { i.add_extension(ext_data_file, Bytes(11, 'x')); });
    odd("bitmaps-of-3-bytes", [](Image &i) {
        i.put64(h_autoclear, autoclear_bitmaps);
        i.add_extension(ext_bitmaps, Bytes(3, 1));
    });
    odd("bitmaps-all-ones", [](Image &i) {
        i.put64(h_autoclear, autoclear_bitmaps);
        i.add_extension(ext_bitmaps, Bytes(24, 0xff));
    });
    odd("backing-format-without-backing", [](Image &i) { i.add_extension(ext_backing_format, Bytes{'r', 'a', 'w'}); });
    odd("backing-format-of-64-bytes", [](Image &i) { i.add_extension(ext_backing_format, Bytes(64, 'q')); });
}

void add_good_extensions(Catalogue &catalogue)
{
    for (const Geometry &geometry : {v2, v3}) {
        const std::string prefix = geometry.version == 2 ? "v2-" : "v3-";
        catalogue.add(prefix + "extension-unknown", Expect::ok, "", geometry,
                      [](Image &i) { i.add_extension(unknown_extension, Bytes(40, 7)); });
        catalogue.add(prefix + "extension-unknown-empty", Expect::ok, "", geometry,
                      [](Image &i) { i.add_extension(unknown_extension, {}); });
        catalogue.add(prefix + "extension-unknown-odd-length", Expect::ok, "", geometry, [](Image &i) {
            i.add_extension(unknown_extension, Bytes(13, 0xff));
            i.add_extension(unknown_extension + 1, Bytes(1, 0xff));
        });
        catalogue.add(prefix + "extension-hundreds", Expect::ok, "", geometry, [](Image &i) {
            for (std::uint32_t n = 0; n < 200; n++)
                i.add_extension(unknown_extension + n, Bytes(8, 9));
        });
    }
    catalogue.add("extension-two-feature-tables", Expect::ok, "", v3, [](Image &i) {
        i.add_extension(ext_feature_names, feature_entry(0, 40, "one"));
        i.add_extension(ext_feature_names, feature_entry(0, 41, "two"));
    });
}

std::string geometry_name(const Geometry &geometry)
{
    return "valid-v" + std::to_string(geometry.version) + "-cluster-" + std::to_string(geometry.cluster()) +
           "-refcount-" + std::to_string(1U << geometry.refcount_order) + (geometry.snapshot ? "-snapshot" : "") +
           (geometry.extended ? "-extended" : "");
}

} // namespace

void add_feature_cases(Catalogue &catalogue)
{
    add_known_incompatible(catalogue);
    add_unknown_incompatible(catalogue);
    add_compression_type(catalogue);
    add_compatible(catalogue);
}

void add_extension_cases(Catalogue &catalogue)
{
    add_bad_extensions(catalogue);
    add_odd_extensions(catalogue);
    add_good_extensions(catalogue);
}

void add_valid_cases(Catalogue &catalogue)
{
    const auto valid = [&](const Geometry &geometry) {
        catalogue.add(geometry_name(geometry), Expect::ok, "", geometry, [](Image &) {});
    };
    for (unsigned bits = 12; bits <= 21; bits++)
        valid(Geometry{.version = 3, .cluster_bits = bits});
    for (unsigned bits : {12U, 16U, 20U})
        valid(Geometry{.version = 2, .cluster_bits = bits});
    for (unsigned order : {0U, 1U, 2U, 3U, 5U, 6U})
        valid(Geometry{.version = 3, .refcount_order = order});
    for (unsigned order : {1U, 3U, 4U, 6U})
        valid(Geometry{.version = 3, .refcount_order = order, .snapshot = true});
    valid(Geometry{.version = 2, .snapshot = true});
    valid(Geometry{.version = 3, .cluster_bits = 16, .snapshot = true});
    valid(extended);
    valid(extended_64k);
    valid(extended_snapshot);
    valid(Geometry{.version = 3, .cluster_bits = 21, .extended = true});
}

} // namespace hostile
