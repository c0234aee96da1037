// SPDX-License-Identifier: GPL-2.0-only
// Files that are too short, and header fields out of range.
#include "cases.hpp"

#include <fmt/core.h>

namespace hostile {

using namespace format;

namespace {

struct Value {
    const char *name;
    std::uint64_t value;
};

// A place in the file that depends on the image.
struct Place {
    const char *name;
    std::uint64_t (*offset)(const Image &);
};

std::string version_name(const Geometry &geometry)
{
    return geometry.version == 2 ? "v2" : "v3";
}

template <typename Values>
void add_field32(Catalogue &catalogue, const std::string &field, std::uint64_t at, const Values &values,
                 const std::string &reason, const Geometry &geometry = v3)
{
    for (const Value &v : values)
        catalogue.add(version_name(geometry) + "-" + field + "-" + v.name, Expect::refuse, reason, geometry,
                      [at, value = v.value](Image &image) { image.put32(at, value); });
}

void add_truncated_header(Catalogue &catalogue, const Geometry &geometry)
{
    static constexpr std::uint64_t lengths[] = {0, 1, 3, 4, 7, 8, 20, 24, 32, 36, 40, 48, 56, 60, 64, 71};
    const std::string prefix = version_name(geometry) + "-file-of-";
    for (std::uint64_t length : lengths)
        catalogue.add(prefix + std::to_string(length), Expect::refuse, "", geometry,
                      [length](Image &image) { image.truncate(length); });
    if (geometry.version < 3)
        return;
    static constexpr std::uint64_t v3_lengths[] = {72, 76, 80, 88, 96, 99, 100, 101, 103};
    for (std::uint64_t length : v3_lengths)
        catalogue.add(prefix + std::to_string(length), Expect::refuse, "", geometry,
                      [length](Image &image) { image.truncate(length); });
}

// The header is whole, and the tables that it names are not there.
void add_truncated_tables(Catalogue &catalogue, const Geometry &geometry)
{
    static constexpr Place ends[] = {
        {"header", [](const Image &) -> std::uint64_t { return h_v3_end; }},
        {"sector", [](const Image &) -> std::uint64_t { return sector_size; }},
        {"header-cluster", [](const Image &i) -> std::uint64_t { return i.cluster(); }},
        {"half-reftable", [](const Image &i) -> std::uint64_t { return i.reftable() + i.cluster() / 2; }},
        {"reftable", [](const Image &i) -> std::uint64_t { return i.refblock(); }},
        {"refblock", [](const Image &i) -> std::uint64_t { return i.l1(); }},
        {"half-l1-entry", [](const Image &i) -> std::uint64_t { return i.l1() + 4; }},
    };
    for (const Place &end : ends)
        catalogue.add(fmt::format("{}-file-ends-after-{}", version_name(geometry), end.name), Expect::refuse,
                      "beyond|end|short|L1|refcount", geometry,
                      [offset = end.offset](Image &image) { image.truncate(offset(image)); });
}

void add_truncated_guest(Catalogue &catalogue)
{
    catalogue.add("file-ends-before-l2", Expect::refuse_or_io, "", v3, [](Image &image) {
        image.truncate(image.l2(0));
        image.want_all(Want::fails);
    });
    catalogue.add("file-ends-before-second-l2", Expect::refuse_or_io, "", v3, [](Image &image) {
        image.truncate(image.l2(1));
        image.want_l2(1, Want::fails);
        for (std::uint64_t k = 0; k < image.l2_entries(); k++)
            if (image.get<std::uint64_t>(image.l2_entry(k)) & offset_mask)
                image.want_cluster(k, Want::fails);
        image.want_cluster(Image::prealloc_zero_cluster, Want::any);
        for (std::uint64_t k = Image::prealloc_zero_cluster; k < 24; k += 6)
            image.want_cluster(k, Want::any);
    });
    catalogue.add("file-ends-in-second-l2", Expect::refuse_or_io, "", v3, [](Image &image) {
        image.truncate(image.l2(1) + sector_size);
        image.want_l2(1, Want::any);
        for (std::uint64_t k = 0; k < image.l2_entries(); k++)
            if (image.get<std::uint64_t>(image.l2_entry(k)) & offset_mask)
                image.want_cluster(k, Want::any);
    });
    catalogue.add("file-ends-before-data", Expect::io, "", v3, [](Image &image) {
        std::uint64_t data = image.data(Image::data_cluster);
        std::uint64_t end = image.end();
        for (std::uint64_t k = 1; k < image.guest_clusters(); k++) {
            auto entry = image.get<std::uint64_t>(image.l2_entry(k));
            if ((entry & offset_mask) >= data && (entry & offset_mask) < end)
                image.want_cluster(k, entry & zero_flag ? Want::any : Want::fails);
        }
        image.truncate(data);
    });
    // What QEMU reads as zeros beyond the end, others call an error: both are safe.
    catalogue.add("file-ends-in-data", Expect::io, "", v3, [](Image &image) {
        std::uint64_t last = image.l2_entries() + 23;
        image.truncate(image.data(last) + 2 * sector_size);
        image.view.set(last * image.cluster() / sector_size + 2, image.cluster() / sector_size - 2, Want::any);
    });
    catalogue.add("file-ends-off-sector", Expect::io, "", v3, [](Image &image) {
        std::uint64_t last = image.l2_entries() + 23;
        image.truncate(image.data(last) + 2 * sector_size + 100);
        image.view.set(last * image.cluster() / sector_size + 2, image.cluster() / sector_size - 2, Want::any);
    });
}

void add_identity(Catalogue &catalogue)
{
    static constexpr Value magics[] = {
        {"zero", 0},         {"version-1", 0x514649fa}, {"reversed", 0xfb494651}, {"lower-case", 0x716669fb},
        {"qed", 0x00444551}, {"vmdk", 0x4b444d56},      {"all-ones", 0xffffffff},
    };
    add_field32(catalogue, "magic", h_magic, magics, "magic|qcow2", v3);
    static constexpr Value versions[] = {
        {"0", 0},
        {"1", 1},
        {"4", 4},
        {"5", 5},
        {"256", 256},
        {"reversed-2", 0x02000000},
        {"reversed-3", 0x03000000},
        {"all-ones", 0xffffffff},
    };
    add_field32(catalogue, "version", h_version, versions, "version", v3);
}

void add_cluster_bits(Catalogue &catalogue)
{
    static constexpr std::uint64_t wrong[] = {0,  1,  2,  3,  4,  5,   6,   7,          8,          22,
                                              23, 31, 32, 63, 64, 255, 256, 0x7fffffff, 0x80000000, 0xffffffff};
    for (std::uint64_t bits : wrong)
        catalogue.add("v3-cluster-bits-" + std::to_string(bits), Expect::refuse, "cluster", v3,
                      [bits](Image &i) { i.put32(h_cluster_bits, bits); });
    static constexpr std::uint64_t wrong_v2[] = {0, 8, 22, 0xffffffff};
    for (std::uint64_t bits : wrong_v2)
        catalogue.add("v2-cluster-bits-" + std::to_string(bits), Expect::refuse, "cluster", v2,
                      [bits](Image &i) { i.put32(h_cluster_bits, bits); });
    // Right by the format and smaller than what the target handles.
    for (unsigned bits = 9; bits < 12; bits++)
        catalogue.add("v3-cluster-bits-" + std::to_string(bits), Expect::refuse, "cluster",
                      Geometry{.cluster_bits = bits}, [](Image &) {});
    // Every offset in the file is now off the cluster.
    catalogue.add("v3-cluster-bits-larger-than-made", Expect::refuse, "", v3,
                  [](Image &i) { i.put32(h_cluster_bits, 21); });
}

void add_size(Catalogue &catalogue)
{
    static constexpr Value sizes[] = {
        {"0", 0},
        {"1", 1},
        {"511", 511},
        {"512", 512},
        {"sector-and-1", 2097153},
        {"2-to-the-40", 1ULL << 40},
        {"2-to-the-56", 1ULL << 56},
        {"2-to-the-62", 1ULL << 62},
        {"sign-bit", 1ULL << 63},
        {"largest-sector", 0xfffffffffffffe00ULL},
        {"all-ones", 0xffffffffffffffffULL},
    };
    for (const Geometry &geometry : {v2, v3})
        for (const Value &v : sizes)
            catalogue.add(version_name(geometry) + "-size-" + v.name, Expect::refuse, "size|sector|L1", geometry,
                          [value = v.value](Image &i) { i.put64(h_size, value); });
    // The table goes with the header here, so that only the L1 table is too small.
    catalogue.add("size-needs-larger-l1", Expect::refuse, "L1|size", v3, [](Image &i) { i.put64(h_size, 1ULL << 40); })
        .table_sectors = (1ULL << 40) / sector_size;
    catalogue.add("size-needs-largest-l1", Expect::refuse, "L1|size", v3, [](Image &i) { i.put64(h_size, 1ULL << 62); })
        .table_sectors = (1ULL << 62) / sector_size;
    std::uint64_t sectors = guest_size(v3) / sector_size;
    catalogue.add("table-one-sector-short", Expect::refuse, "sector|size", v3, [](Image &) {}).table_sectors =
        sectors - 1;
    catalogue.add("table-one-sector-long", Expect::refuse, "sector|size", v3, [](Image &) {}).table_sectors =
        sectors + 1;
    catalogue.add("table-of-one-sector", Expect::refuse, "sector|size", v3, [](Image &) {}).table_sectors = 1;
}

void add_crypt(Catalogue &catalogue)
{
    static constexpr Value methods[] = {
        {"aes", 1}, {"luks", 2}, {"3", 3}, {"sign-bit", 0x80000000}, {"all-ones", 0xffffffff}};
    add_field32(catalogue, "crypt", h_crypt_method, methods, "crypt", v3);
    add_field32(catalogue, "crypt", h_crypt_method, methods, "crypt", v2);
}

void add_l1_size(Catalogue &catalogue)
{
    static constexpr Value sizes[] = {
        {"0", 0},
        {"too-small", 1},
        {"beyond-the-end", 1 << 20},
        {"32-mib-beyond-the-end", 4 << 20},
        {"over-32-mib", (4 << 20) + 1},
        {"wraps-32-bits", 0x20000000},
        {"wraps-32-bits-to-16", 0x20000002},
        {"int-max", 0x7fffffff},
        {"sign-bit", 0x80000000},
        {"all-ones", 0xffffffff},
    };
    add_field32(catalogue, "l1-size", h_l1_size, sizes, "L1", v3);
    static constexpr Value some[] = {{"0", 0}, {"all-ones", 0xffffffff}};
    add_field32(catalogue, "l1-size", h_l1_size, some, "L1", v2);
}

// Table offsets that no valid image has; the same for the L1 table, the refcount table and the
// snapshot table.
constexpr Place bad_offsets[] = {
    {"1", [](const Image &) -> std::uint64_t { return 1; }},
    {"sector", [](const Image &) -> std::uint64_t { return sector_size; }},
    {"8-off-cluster", [](const Image &i) -> std::uint64_t { return i.l1() + 8; }},
    {"sector-off-cluster", [](const Image &i) -> std::uint64_t { return i.l1() + sector_size; }},
    {"end-of-file",
     [](const Image &i) -> std::uint64_t { return (i.end() + i.cluster() - 1) / i.cluster() * i.cluster(); }},
    {"beyond-the-end", [](const Image &) -> std::uint64_t { return std::uint64_t(1) << 40; }},
    {"2-to-the-56", [](const Image &) -> std::uint64_t { return std::uint64_t(1) << 56; }},
    {"sign-bit", [](const Image &) -> std::uint64_t { return std::uint64_t(1) << 63; }},
    {"last-cluster", [](const Image &i) -> std::uint64_t { return 0 - i.cluster(); }},
    {"all-ones", [](const Image &) -> std::uint64_t { return ~std::uint64_t(0); }},
};

void add_offsets(Catalogue &catalogue, const std::string &field, std::uint64_t at, const std::string &reason,
                 const Geometry &geometry)
{
    for (const Place &p : bad_offsets)
        catalogue.add(version_name(geometry) + "-" + field + "-" + p.name, Expect::refuse, reason, geometry,
                      [at, offset = p.offset](Image &image) { image.put64(at, offset(image)); });
}

void add_table_offsets(Catalogue &catalogue)
{
    add_offsets(catalogue, "l1-offset", h_l1_offset, "L1", v3);
    add_offsets(catalogue, "reftable-offset", h_reftable_offset, "refcount", v3);
    catalogue.add("v3-l1-offset-0", Expect::refuse, "L1", v3, [](Image &i) { i.put64(h_l1_offset, 0); });
    catalogue.add("v2-l1-offset-0", Expect::refuse, "L1", v2, [](Image &i) { i.put64(h_l1_offset, 0); });
    catalogue.add("v2-l1-offset-unaligned", Expect::refuse, "L1", v2,
                  [](Image &i) { i.put64(h_l1_offset, i.l1() + 8); });
    catalogue.add("v3-reftable-offset-0", Expect::refuse, "refcount", v3,
                  [](Image &i) { i.put64(h_reftable_offset, 0); });
    catalogue.add("v2-reftable-offset-0", Expect::refuse, "refcount", v2,
                  [](Image &i) { i.put64(h_reftable_offset, 0); });
    catalogue.add("l1-is-the-reftable", Expect::refuse, "L1|refcount|overlap", v3,
                  [](Image &i) { i.put64(h_l1_offset, i.reftable()); });
    catalogue.add("reftable-is-the-l1", Expect::refuse, "L1|refcount|overlap", v3,
                  [](Image &i) { i.put64(h_reftable_offset, i.l1()); });
    catalogue
        .add("l1-is-an-l2", Expect::refuse_or_io, "", v3,
             [](Image &i) {
                 i.put64(h_l1_offset, i.l2());
                 i.want_all(Want::any);
             })
        .aliases = true;
    catalogue
        .add("l1-is-the-refblock", Expect::refuse_or_io, "", v3,
             [](Image &i) {
                 i.put64(h_l1_offset, i.refblock());
                 i.want_all(Want::any);
             })
        .aliases = true;
    catalogue.add("reftable-is-the-refblock", Expect::refuse_or_io, "", v3,
                  [](Image &i) { i.put64(h_reftable_offset, i.refblock()); });
    catalogue.add("reftable-is-an-l2", Expect::refuse_or_io, "", v3,
                  [](Image &i) { i.put64(h_reftable_offset, i.l2()); });
}

void add_reftable_clusters(Catalogue &catalogue)
{
    static constexpr Value counts[] = {
        {"0", 0},
        {"beyond-the-end", 1024},
        {"8-mib-beyond-the-end", 2048},
        {"over-8-mib", 2049},
        {"wraps-32-bits", 0x00100000},
        {"wraps-32-bits-to-1", 0x00100001},
        {"int-max", 0x7fffffff},
        {"sign-bit", 0x80000000},
        {"all-ones", 0xffffffff},
    };
    add_field32(catalogue, "reftable-clusters", h_reftable_clusters, counts, "refcount", v3);
    static constexpr Value some[] = {{"0", 0}, {"all-ones", 0xffffffff}};
    add_field32(catalogue, "reftable-clusters", h_reftable_clusters, some, "refcount", v2);
    catalogue.add("reftable-runs-into-l1", Expect::refuse_or_io, "", v3,
                  [](Image &i) { i.put32(h_reftable_clusters, 3); });
}

void add_backing(Catalogue &catalogue)
{
    const auto named = [](Image &i, std::uint64_t offset, std::uint32_t size) {
        i.put64(h_backing_offset, offset);
        i.put32(h_backing_size, size);
    };
    for (const Geometry &geometry : {v2, v3})
        catalogue.add(version_name(geometry) + "-backing-file", Expect::refuse, "backing", geometry, [named](Image &i) {
            const std::string name = "/etc/passwd";
            for (std::size_t n = 0; n < name.size(); n++)
                i.put8(512 + n, static_cast<std::uint8_t>(name[n]));
            named(i, 512, static_cast<std::uint32_t>(name.size()));
        });
    static constexpr struct {
        const char *name;
        std::uint64_t offset;
        std::uint32_t size;
    } wrong[] = {
        {"beyond-first-cluster", 4090, 20},
        {"second-cluster", 4096, 10},
        {"in-header", 8, 10},
        {"beyond-the-end", 1ULL << 40, 10},
        {"sign-bit", 1ULL << 63, 10},
        {"wraps", 0xfffffffffffffff8ULL, 16},
        {"of-1024", 512, 1024},
        {"size-int-max", 512, 0x7fffffff},
        {"size-all-ones", 512, 0xffffffff},
    };
    for (const auto &w : wrong)
        catalogue.add(std::string("backing-") + w.name, Expect::refuse, "backing", v3,
                      [named, w](Image &i) { named(i, w.offset, w.size); });
    catalogue.add("backing-size-without-offset", Expect::ok, "", v3, [named](Image &i) { named(i, 0, 10); });
    catalogue.add("backing-offset-without-size", Expect::refuse_or_io, "", v3, [named](Image &i) { named(i, 512, 0); });
}

void add_header_length(Catalogue &catalogue)
{
    static constexpr Value lengths[] = {
        {"0", 0},
        {"72", 72},
        {"96", 96},
        {"103", 103},
        {"105", 105},
        {"108", 108},
        {"over-the-cluster", 4104},
        {"int-max", 0x7ffffff8},
        {"wraps", 0xfffffff8},
        {"all-ones", 0xffffffff},
    };
    add_field32(catalogue, "header-length", h_header_length, lengths, "header", v3);
    catalogue.add("v3-header-length-112", Expect::ok, "", v3, [](Image &i) { i.set_header_length(112); });
    catalogue.add("v3-header-length-256", Expect::ok, "", v3, [](Image &i) { i.set_header_length(256); });
    catalogue.add("v3-header-length-cluster", Expect::ok, "", v3, [](Image &i) { i.set_header_length(4096); });
}

void add_refcount_order(Catalogue &catalogue)
{
    static constexpr Value orders[] = {{"7", 7},   {"8", 8},   {"31", 31},   {"32", 32},
                                       {"63", 63}, {"64", 64}, {"256", 256}, {"all-ones", 0xffffffff}};
    add_field32(catalogue, "refcount-order", h_refcount_order, orders, "refcount", v3);
}

} // namespace

void add_truncated_cases(Catalogue &catalogue)
{
    for (const Geometry &geometry : {v2, v3}) {
        add_truncated_header(catalogue, geometry);
        add_truncated_tables(catalogue, geometry);
    }
    add_truncated_guest(catalogue);
}

void add_header_cases(Catalogue &catalogue)
{
    add_identity(catalogue);
    add_cluster_bits(catalogue);
    add_size(catalogue);
    add_crypt(catalogue);
    add_l1_size(catalogue);
    add_table_offsets(catalogue);
    add_reftable_clusters(catalogue);
    add_backing(catalogue);
    add_header_length(catalogue);
    add_refcount_order(catalogue);
}

} // namespace hostile
