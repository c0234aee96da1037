// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/l2_tables.hpp"

#include "base/error.hpp"
#include "qcow2/big_endian.hpp"

#include <algorithm>

namespace liveblk::qcow2 {

L2Reader::L2Reader(const Image &image)
    : image_(image), format_(image.header(), image.limit()), words_(image.header().cluster_size() / 8)
{
}

bool L2Reader::valid(std::uint64_t l1_entry) const
{
    return !(l1_entry & l1_reserved) && image_.holds(l1_entry & offset_mask, image_.header().cluster_size());
}

std::uint64_t L2Reader::bytes_of_tables(std::span<const std::uint64_t> l1) const
{
    const auto none = static_cast<std::uint64_t>(std::count(l1.begin(), l1.end(), 0));
    return (l1.size() - none) << image_.header().cluster_bits;
}

std::span<std::uint64_t> L2Reader::read(std::uint64_t offset)
{
    image_.file().read(std::as_writable_bytes(std::span(words_)), offset);
    for (std::uint64_t &word : words_)
        word = big_endian(word);
    return words_;
}

L2Tables::L2Tables(Edit &edit, Progress &progress) : edit_(edit), progress_(progress), reader_(edit.image()) {}

void L2Tables::refuse(const std::string &what) const
{
    fail("edit '{}': {}; run 'check' to see what is wrong", edit_.image().path(), what);
}

// No program makes such an L1 table; one with a table a million times over would take hours.
void L2Tables::require_distinct(std::span<const std::uint64_t> l1) const
{
    std::vector<std::uint64_t> offsets;
    for (const std::uint64_t entry : l1)
        if (entry)
            offsets.push_back(entry & offset_mask);
    std::sort(offsets.begin(), offsets.end());
    const auto twice = std::adjacent_find(offsets.begin(), offsets.end());
    if (twice != offsets.end())
        refuse(fmt::format("an L1 table refers to the L2 table at {:#x} twice", *twice));
}

template <typename OnTable>
void L2Tables::for_each_table(const char *what, std::span<const std::uint64_t> l1, OnTable on_table)
{
    require_distinct(l1);
    progress_.begin(what, reader_.bytes_of_tables(l1));
    for (std::size_t i = 0; i < l1.size(); i++) {
        if (!l1[i])
            continue;
        progress_.advance(edit_.header().cluster_size());
        if (!reader_.valid(l1[i]))
            refuse(fmt::format("L1 entry {} is {:#x}, which is no L2 table of this image", i, l1[i]));
        reader_.prefetch(l1, i);
        const std::uint64_t table = l1[i] & offset_mask;
        on_table(i, table, reader_.read(table));
    }
    progress_.end();
}

void L2Tables::count_data(std::uint64_t table, std::span<const std::uint64_t> words, bool up)
{
    Refcounts &refcounts = edit_.refcounts();
    for_each_run(
        reader_.format(), words,
        [&](std::uint64_t first, std::uint64_t n) {
            up ? refcounts.increment(first, n) : refcounts.decrement(first, n);
        },
        [&](std::size_t i) { refuse(fmt::format("entry {} of the L2 table at {:#x} is not valid", i, table)); });
}

void L2Tables::count(std::uint64_t table, std::span<const std::uint64_t> words, bool up)
{
    count_data(table, words, up);
    Refcounts &refcounts = edit_.refcounts();
    const std::uint64_t cluster = table >> edit_.header().cluster_bits;
    up ? refcounts.increment(cluster, 1) : refcounts.decrement(cluster, 1);
}

// The new table has one reference, and the old one loses one.
std::uint64_t L2Tables::replace(std::uint64_t table, std::span<const std::uint64_t> words)
{
    edit_.refcounts().decrement(table >> edit_.header().cluster_bits, 1);
    return edit_.write_table(words);
}

std::vector<std::uint64_t> L2Tables::share(std::vector<std::uint64_t> l1)
{
    for_each_table("share", l1, [&](std::size_t i, std::uint64_t table, std::span<std::uint64_t> words) {
        std::uint64_t flags = 0;
        for (std::size_t w = 0; w < words.size(); w += reader_.format().stride()) {
            flags |= words[w];
            words[w] &= ~flag_copied;
        }
        l1[i] = table;
        if (!(flags & flag_copied))
            return;
        edit_.refcounts().decrement(table >> edit_.header().cluster_bits, 1);
        l1[i] = replace(table, words);
        edit_.refcounts().increment(l1[i] >> edit_.header().cluster_bits, 1);
    });
    return l1;
}

void L2Tables::add_references(std::span<const std::uint64_t> l1)
{
    for_each_table("count up", l1, [&](std::size_t, std::uint64_t table, std::span<std::uint64_t> words) {
        count(table, words, true);
    });
}

void L2Tables::drop_references(std::span<const std::uint64_t> l1)
{
    for_each_table("count down", l1, [&](std::size_t, std::uint64_t table, std::span<std::uint64_t> words) {
        count(table, words, false);
    });
}

void L2Tables::require_in_use(std::uint64_t table, std::size_t entry, const Run &run)
{
    if (!edit_.refcounts().all_in_use(run.first, run.count))
        refuse(fmt::format("entry {} of the L2 table at {:#x} refers to a cluster that would be free", entry, table));
}

void L2Tables::require_table_in_use(const std::string &whose, std::uint64_t table)
{
    if (!edit_.refcounts().get(table >> edit_.header().cluster_bits))
        refuse(fmt::format("the L2 table at {:#x} of {} would be free", table, whose));
}

void L2Tables::require_data_in_use(const std::string &whose, std::uint64_t table, std::span<const std::uint64_t> words)
{
    for_each_run(
        reader_.format(), words,
        [&](std::uint64_t first, std::uint64_t count) {
            if (!edit_.refcounts().all_in_use(first, count))
                refuse(fmt::format("the L2 table at {:#x} of {} refers to a cluster that would be free", table, whose));
        },
        [](std::size_t) {});
}

void L2Tables::require_in_use(const std::string &whose, std::span<const std::uint64_t> l1)
{
    progress_.begin("verify", reader_.bytes_of_tables(l1));
    for (std::size_t i = 0; i < l1.size(); i++) {
        if (!l1[i])
            continue;
        progress_.advance(edit_.header().cluster_size());
        // What cannot be followed is no worse than before. Snapshots share most of their tables.
        if (!reader_.valid(l1[i]) || !seen_in_use_.insert(l1[i] & offset_mask).second)
            continue;
        const std::uint64_t table = l1[i] & offset_mask;
        require_table_in_use(whose, table);
        reader_.prefetch(l1, i);
        require_data_in_use(whose, table, reader_.read(table));
    }
    progress_.end();
}

std::vector<std::uint64_t> L2Tables::l1_in_use(const Snapshot &snapshot)
{
    std::vector<std::uint64_t> l1 = edit_.image().read_l1(snapshot);
    const Header &h = edit_.header();
    if (!l1.empty() &&
        !edit_.refcounts().all_in_use(snapshot.l1_offset >> h.cluster_bits, h.clusters_of(l1.size() * 8)))
        refuse(fmt::format("the L1 table of snapshot {} would be free", printable(snapshot.id)));
    return l1;
}

void L2Tables::require_in_use(std::span<const Snapshot> snapshots, std::span<const std::uint64_t> active)
{
    require_in_use("the disk", active);
    for (const Snapshot &s : snapshots)
        require_in_use(fmt::format("snapshot {}", printable(s.id)), l1_in_use(s));
}

void L2Tables::require_tables_in_use(std::span<const Snapshot> snapshots)
{
    for (const Snapshot &s : snapshots)
        for (const std::uint64_t entry : l1_in_use(s))
            if (reader_.valid(entry))
                require_table_in_use(fmt::format("snapshot {}", printable(s.id)), entry & offset_mask);
}

bool L2Tables::have_no_other_tables(std::span<const Snapshot> snapshots, std::span<const std::uint64_t> l1) const
{
    const std::unordered_set<std::uint64_t> known(l1.begin(), l1.end());
    for (const Snapshot &s : snapshots)
        for (const std::uint64_t entry : edit_.image().read_l1(s))
            // Those of a snapshot have no COPIED flag, and those that are shared have none either.
            if (entry && !known.contains(entry))
                return false;
    return true;
}

bool L2Tables::settle_table(std::uint64_t table, std::span<std::uint64_t> words)
{
    const L2Format &format = reader_.format();
    bool changed = false;
    for (std::size_t i = 0; i < words.size(); i += format.stride()) {
        if (!words[i])
            continue;
        const ClusterType type = format.type(words[i]);
        std::uint64_t flag = 0;
        if (type == ClusterType::normal || type == ClusterType::zero_allocated) {
            const Run run = {format.cluster(words[i]), 1};
            require_in_use(table, i / format.stride(), run);
            flag = edit_.refcounts().get(run.first) == 1 ? flag_copied : 0;
        } else if (type == ClusterType::compressed) {
            require_in_use(table, i / format.stride(), format.compressed_run(words[i]));
        } else if (type == ClusterType::invalid) {
            continue;
        }
        if ((words[i] & flag_copied) == flag)
            continue;
        words[i] ^= flag_copied;
        changed = true;
    }
    return changed;
}

std::vector<std::uint64_t> L2Tables::settle_copied(std::vector<std::uint64_t> l1)
{
    for_each_table("set flags", l1, [&](std::size_t i, std::uint64_t table, std::span<std::uint64_t> words) {
        if (settle_table(table, words))
            table = replace(table, words);
        else
            seen_in_use_.insert(table);
        const std::uint64_t refcount = edit_.refcounts().get(table >> edit_.header().cluster_bits);
        if (refcount == 0)
            refuse(fmt::format("the L2 table at {:#x} would be free", table));
        l1[i] = table | (refcount == 1 ? flag_copied : 0);
    });
    return l1;
}

std::vector<std::uint64_t> L2Tables::unmap_from(std::vector<std::uint64_t> l1, std::uint64_t guest_cluster)
{
    const L2Format &format = reader_.format();
    const std::size_t first = guest_cluster >> edit_.header().l2_bits();
    const std::size_t within = guest_cluster & (edit_.header().l2_entries() - 1);
    if (first >= l1.size())
        return l1;
    const std::size_t whole = std::min(l1.size(), first + (within != 0));
    const auto behind = std::span(l1).subspan(whole);
    drop_references(behind);
    std::fill(behind.begin(), behind.end(), 0);
    if (whole != first && l1[first]) {
        for_each_table("cut", std::span(l1).subspan(first, 1),
                       [&](std::size_t, std::uint64_t table, std::span<std::uint64_t> words) {
                           const auto gone = words.subspan(within * format.stride());
                           if (std::all_of(gone.begin(), gone.end(), [](std::uint64_t w) { return w == 0; }))
                               return;
                           count_data(table, gone, false);
                           std::fill(gone.begin(), gone.end(), 0);
                           require_data_in_use("the disk", table, words);
                           l1[first] = replace(table, words) | flag_copied;
                       });
    }
    return l1;
}

} // namespace liveblk::qcow2
