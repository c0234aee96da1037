// SPDX-License-Identifier: GPL-2.0-only
// Snapshot tables: the target does not need their content to read and write, but it has to keep
// off them, and must not be led astray by their lengths.
#include "cases.hpp"

namespace hostile {

using namespace format;

namespace {

void add_counts(Catalogue &catalogue)
{
    const auto counts = [&](const std::string &name, std::uint32_t count, Expect expect) {
        catalogue.add("snapshots-" + name, expect, expect == Expect::refuse ? "snapshot|overlap" : "", v3_snapshot,
                      [count](Image &i) { i.put32(h_nb_snapshots, count); });
    };
    counts("65537", 65537, Expect::refuse);
    counts("int-max", 0x7fffffff, Expect::refuse);
    counts("sign-bit", 0x80000000, Expect::refuse);
    counts("all-ones", 0xffffffff, Expect::refuse);
    counts("more-than-there-are", 2, Expect::refuse_or_io);
    counts("65536-of-1", 65536, Expect::refuse_or_io);
    counts("none-but-a-table", 0, Expect::refuse_or_io);
}

void add_offsets(Catalogue &catalogue)
{
    const auto offset = [&](const std::string &name, std::uint64_t (*value)(const Image &), Expect expect) {
        catalogue.add("snapshots-offset-" + name, expect, expect == Expect::refuse ? "snapshot|overlap" : "",
                      v3_snapshot, [value](Image &i) { i.put64(h_snapshots_offset, value(i)); });
    };
    offset(
        "0", [](const Image &) -> std::uint64_t { return 0; }, Expect::refuse);
    offset(
        "unaligned", [](const Image &i) -> std::uint64_t { return i.snapshot_table() + 8; }, Expect::refuse);
    offset(
        "end-of-file",
        [](const Image &i) -> std::uint64_t { return (i.end() + i.cluster() - 1) / i.cluster() * i.cluster(); },
        Expect::refuse);
    offset(
        "beyond-the-end", [](const Image &) -> std::uint64_t { return 1ULL << 40; }, Expect::refuse);
    offset(
        "sign-bit", [](const Image &) -> std::uint64_t { return 1ULL << 63; }, Expect::refuse);
    offset(
        "all-ones", [](const Image &) -> std::uint64_t { return ~0ULL; }, Expect::refuse);
    offset(
        "l1", [](const Image &i) -> std::uint64_t { return i.l1(); }, Expect::refuse);
    catalogue.add("snapshots-offset-data", Expect::refuse_or_io, "", v3_snapshot, [](Image &i) {
        i.put64(h_snapshots_offset, i.data(Image::data_cluster));
        i.want_cluster(Image::data_cluster, Want::any);
    });
    catalogue.add("snapshots-offset-without-snapshots", Expect::refuse_or_io, "", v3,
                  [](Image &i) { i.put64(h_snapshots_offset, ~0ULL); });
}

// Something wrong inside the entry; the image without its snapshots is whole.
void add_entry(Catalogue &catalogue, const std::string &name, std::function<void(Image &)> make)
{
    catalogue.add("snapshot-entry-" + name, Expect::refuse_or_io, "", v3_snapshot, std::move(make));
}

void add_entries(Catalogue &catalogue)
{
    const auto put64 = [&](const std::string &name, std::uint64_t field, std::uint64_t value) {
        add_entry(catalogue, name, [field, value](Image &i) { i.put64(i.snapshot_table() + field, value); });
    };
    const auto put32 = [&](const std::string &name, std::uint64_t field, std::uint64_t value) {
        add_entry(catalogue, name, [field, value](Image &i) { i.put32(i.snapshot_table() + field, value); });
    };
    put64("l1-offset-0", s_l1_offset, 0);
    put64("l1-offset-8", s_l1_offset, 8);
    put64("l1-offset-beyond-the-end", s_l1_offset, 1ULL << 40);
    put64("l1-offset-sign-bit", s_l1_offset, 1ULL << 63);
    put64("l1-offset-all-ones", s_l1_offset, ~0ULL);
    put32("l1-size-over-32-mib", s_l1_size, (4 << 20) + 1);
    put32("l1-size-wraps", s_l1_size, 0x20000001);
    put32("l1-size-all-ones", s_l1_size, 0xffffffff);
    put32("vm-state-all-ones", s_vm_state_size, 0xffffffff);
    put32("extra-over-1024", s_extra_size, 1025);
    put32("extra-wraps", s_extra_size, 0xfffffff0);
    put32("extra-all-ones", s_extra_size, 0xffffffff);
    add_entry(catalogue, "names-of-64-kib", [](Image &i) {
        i.put16(i.snapshot_table() + s_id_size, 0xffff);
        i.put16(i.snapshot_table() + s_name_size, 0xffff);
    });
    add_entry(catalogue, "noise", [](Image &i) {
        fill_pattern({i.bytes.data() + i.snapshot_table(), i.cluster()}, 5);
    });
    add_entry(catalogue, "l1-is-active-l1", [](Image &i) { i.put64(i.snapshot_table() + s_l1_offset, i.l1()); });
    add_entry(catalogue, "l1-full-of-noise", [](Image &i) {
        fill_pattern({i.bytes.data() + i.snapshot_l1(), i.cluster()}, 6);
    });
}

} // namespace

void add_snapshot_cases(Catalogue &catalogue)
{
    add_counts(catalogue);
    add_offsets(catalogue);
    add_entries(catalogue);
}

} // namespace hostile
