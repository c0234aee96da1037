// SPDX-License-Identifier: GPL-2.0-only
// Refcount tables and blocks that lie. Reading does not need them, so data must stay readable; a
// writer must not overwrite the metadata that it knows, whatever the refcounts say.
#include "cases.hpp"

namespace hostile {

using namespace format;

namespace {

// Changes the only refcount table entry that is in use.
Case &add_reftable(Catalogue &catalogue, const std::string &name, std::uint64_t (*value)(const Image &),
                   const Geometry &geometry = v3)
{
    Case &c = catalogue.add("reftable-entry-" + name, Expect::refuse_or_io, "", geometry,
                            [value](Image &i) { i.put64(i.reftable(), value(i)); });
    c.aliases = true;
    return c;
}

void add_reftable_cases(Catalogue &catalogue)
{
    add_reftable(catalogue, "end-of-file", [](const Image &i) -> std::uint64_t {
        return (i.end() + i.cluster() - 1) / i.cluster() * i.cluster();
    });
    add_reftable(catalogue, "2-to-the-40", [](const Image &) -> std::uint64_t { return 1ULL << 40; });
    add_reftable(catalogue, "largest", [](const Image &i) -> std::uint64_t { return 0 - i.cluster(); });
    add_reftable(catalogue, "sign-bit", [](const Image &i) -> std::uint64_t { return i.refblock() | 1ULL << 63; });
    add_reftable(catalogue, "off-by-a-sector", [](const Image &i) -> std::uint64_t { return i.refblock() + 512; });
    add_reftable(catalogue, "reserved-bit-0", [](const Image &i) -> std::uint64_t { return i.refblock() | 1; });
    add_reftable(catalogue, "reserved-bit-8", [](const Image &i) -> std::uint64_t { return i.refblock() | 256; });
    add_reftable(catalogue, "all-ones", [](const Image &) -> std::uint64_t { return ~0ULL; });
    add_reftable(catalogue, "0", [](const Image &) -> std::uint64_t { return 0; });
    add_reftable(catalogue, "itself", [](const Image &i) -> std::uint64_t { return i.reftable(); });
    add_reftable(catalogue, "l1", [](const Image &i) -> std::uint64_t { return i.l1(); });
    add_reftable(catalogue, "l2", [](const Image &i) -> std::uint64_t { return i.l2(); });
    // What the guest keeps there is metadata now, and out of its reach.
    catalogue
        .add("reftable-entry-data", Expect::refuse_or_io, "", v3,
             [](Image &i) {
                 i.put64(i.reftable(), i.data(Image::data_cluster));
                 i.want_cluster(Image::data_cluster, Want::any);
             })
        .aliases = true;
    add_reftable(catalogue, "free-cluster", [](const Image &i) -> std::uint64_t { return i.free_cluster(); });
    add_reftable(
        catalogue, "v2-end-of-file", [](const Image &i) -> std::uint64_t { return i.end(); }, v2);
    add_reftable(
        catalogue, "v2-off-by-a-sector", [](const Image &i) -> std::uint64_t { return i.refblock() + 512; }, v2);
    add_reftable(
        catalogue, "64k-off-by-half", [](const Image &i) -> std::uint64_t { return i.refblock() + i.cluster() / 2; },
        v3_64k);
}

// A block far behind the end that says its last cluster is in use: a leak, and a valid image. Nobody
// has to go there as long as there is room before it.
void add_far_block(Catalogue &catalogue, std::uint64_t index)
{
    catalogue.add("reftable-far-leak-" + std::to_string(index), Expect::ok, "", v3, [index](Image &i) {
        std::uint64_t block = i.free_cluster();
        i.set_refcount(block, 1);
        i.put64(i.reftable() + index * entry_size, block);
        for (std::uint64_t n = 0; n < i.cluster(); n++)
            i.put8(block + n, 0);
        i.put16(block + i.cluster() - 2, 1);
    });
}

void add_further_blocks(Catalogue &catalogue)
{
    add_far_block(catalogue, 100);
    add_far_block(catalogue, 511);
    const auto further = [&](const std::string &name, std::uint64_t (*value)(const Image &)) {
        catalogue.add("reftable-further-" + name, Expect::refuse_or_io, "", v3,
                      [value](Image &i) { i.put64(i.reftable() + entry_size, value(i)); });
    };
    // These blocks cover clusters that the file does not have.
    further("same-block", [](const Image &i) -> std::uint64_t { return i.refblock(); });
    further("beyond-the-end", [](const Image &) -> std::uint64_t { return 1ULL << 40; });
    further("unaligned", [](const Image &i) -> std::uint64_t { return i.free_cluster() + 8; });
    further("all-ones", [](const Image &) -> std::uint64_t { return ~0ULL; });
    catalogue.add("reftable-full-of-the-same-block", Expect::refuse_or_io, "", v3, [](Image &i) {
        for (std::uint64_t n = 0; n < i.l2_entries(); n++)
            i.put64(i.reftable() + n * entry_size, i.refblock());
    });
}

// A refcount of 0 says "free" of a cluster that holds metadata.
void add_free_metadata(Catalogue &catalogue)
{
    static constexpr struct {
        const char *name;
        std::uint64_t (*at)(const Image &);
    } places[] = {
        {"header", [](const Image &) -> std::uint64_t { return 0; }},
        {"reftable", [](const Image &i) -> std::uint64_t { return i.reftable(); }},
        {"refblock", [](const Image &i) -> std::uint64_t { return i.refblock(); }},
        {"l1", [](const Image &i) -> std::uint64_t { return i.l1(); }},
        {"first-l2", [](const Image &i) -> std::uint64_t { return i.l2(0); }},
        {"second-l2", [](const Image &i) -> std::uint64_t { return i.l2(1); }},
    };
    for (const auto &p : places) {
        catalogue.add(std::string("refcount-0-for-") + p.name, Expect::refuse_or_io, "", v3,
                      [at = p.at](Image &i) { i.set_refcount(at(i), 0); });
        catalogue.add(std::string("refcount-largest-for-") + p.name, Expect::refuse_or_io, "", v3,
                      [at = p.at](Image &i) { i.set_refcount(at(i), 0xffff); });
    }
    for (const char *name : {"table", "l1"})
        catalogue.add(std::string("refcount-0-for-snapshot-") + name, Expect::refuse_or_io, "", v3_snapshot,
                      [table = std::string(name) == "table"](Image &i) {
                          i.set_refcount(table ? i.snapshot_table() : i.snapshot_l1(), 0);
                      });
    catalogue.add("refcount-0-for-all-metadata", Expect::refuse_or_io, "", v3, [](Image &i) {
        for (std::uint64_t at = 0; at < i.l2(2); at += i.cluster())
            i.set_refcount(at, 0);
    });
    catalogue.add("v2-refcount-0-for-all-metadata", Expect::refuse_or_io, "", v2, [](Image &i) {
        for (std::uint64_t at = 0; at < i.l2(2); at += i.cluster())
            i.set_refcount(at, 0);
    });
}

void add_whole_blocks(Catalogue &catalogue)
{
    for (unsigned order : {0U, 2U, 4U, 6U}) {
        const Geometry geometry{.refcount_order = order};
        const std::string width = std::to_string(1U << order);
        Case &zero = catalogue.add("refcounts-all-0-of-" + width, Expect::refuse_or_io, "", geometry, [](Image &i) {
            for (std::uint64_t n = 0; n < i.cluster(); n++)
                i.put8(i.refblock() + n, 0);
        });
        zero.aliases = true;
        // No free cluster in the block: the next one has to be made.
        catalogue.add("refcounts-all-ones-of-" + width, Expect::refuse_or_io, "", geometry, [](Image &i) {
            for (std::uint64_t n = 0; n < i.cluster(); n++)
                i.put8(i.refblock() + n, 0xff);
        });
    }
    Case &noise = catalogue.add("refcounts-noise", Expect::refuse_or_io, "", v3, [](Image &i) {
        fill_pattern({i.bytes.data() + i.refblock(), i.cluster()}, 99);
    });
    noise.aliases = true;
}

void add_data_refcounts(Catalogue &catalogue)
{
    const auto data = [&](const std::string &name, const Geometry &geometry, std::uint64_t value, bool aliases) {
        Case &c = catalogue.add("refcount-of-data-" + name, Expect::io, "", geometry,
                                [value](Image &i) { i.set_refcount(i.data(Image::data_cluster), value); });
        c.aliases = aliases;
    };
    data("0", v3, 0, true);
    data("2-but-copied", v3, 2, false);
    data("largest-but-copied", v3, 0xffff, false);
    data("0-in-snapshot", v3_snapshot, 0, true);
    data("1-in-snapshot", v3_snapshot, 1, true);
    data("largest-in-snapshot", v3_snapshot, 0xffff, false);
    data("v2-0", v2, 0, true);
    data("1-bit-0", Geometry{.refcount_order = 0}, 0, true);
    data("64-bits-largest", Geometry{.refcount_order = 6, .snapshot = true}, ~0ULL, false);
    data("64-bits-sign-bit", Geometry{.refcount_order = 6, .snapshot = true}, 1ULL << 63, false);
    // Valid: a leak, and one for each cluster that the file does not even have.
    catalogue.add("refcount-leaked-cluster", Expect::ok, "", v3, [](Image &i) { i.set_refcount(i.free_cluster(), 1); });
    catalogue.add("refcount-leaks-beyond-the-end", Expect::ok, "", v3, [](Image &i) {
        for (std::uint64_t n = 1; n < 200; n++)
            i.set_refcount(i.end() + n * i.cluster(), 1);
    });
    catalogue.add("refcount-block-full", Expect::ok, "", v3, [](Image &i) {
        for (std::uint64_t n = i.end() / i.cluster(); n < i.cluster() / 2; n++)
            i.set_refcount(n * i.cluster(), 1);
    });
}

} // namespace

void add_refcount_cases(Catalogue &catalogue)
{
    add_reftable_cases(catalogue);
    add_further_blocks(catalogue);
    add_free_metadata(catalogue);
    add_whole_blocks(catalogue);
    add_data_refcounts(catalogue);
}

} // namespace hostile
