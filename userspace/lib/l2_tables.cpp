// SPDX-License-Identifier: GPL-2.0-only
#include "l2_tables.hpp"

#include "error.hpp"

#include <algorithm>

namespace liveblk::qcow2 {
namespace {

constexpr std::size_t tables_ahead = 64;

} // namespace

L2Reader::L2Reader(const Image &image)
    : image_(image), format_(image.header(), image.limit()), words_(image.header().cluster_size() / 8)
{
}

bool L2Reader::valid(std::uint64_t l1_entry) const
{
    return !(l1_entry & l1_reserved) && image_.holds(l1_entry & offset_mask, image_.header().cluster_size());
}

std::span<std::uint64_t> L2Reader::read(std::uint64_t offset)
{
    image_.file().read(std::as_writable_bytes(std::span(words_)), offset);
    for (std::uint64_t &word : words_)
        word = big_endian(word);
    return words_;
}

void L2Reader::prefetch(std::span<const std::uint64_t> l1, std::size_t index)
{
    if (index == 0)
        prefetched_ = 0;
    if (index < prefetched_)
        return;
    const std::size_t end = std::min(l1.size(), index + tables_ahead);
    for (std::size_t i = index; i < end; i++)
        if (l1[i] && valid(l1[i]))
            image_.file().prefetch(l1[i] & offset_mask, image_.header().cluster_size());
    prefetched_ = end;
}

L2Tables::L2Tables(Edit &edit, Progress &progress) : edit_(edit), progress_(progress), reader_(edit.image()) {}

void L2Tables::refuse(const std::string &what) const
{
    fail("edit '{}': {}; run 'check' to see what is wrong", edit_.image().path(), what);
}

template <typename OnTable>
void L2Tables::for_each_table(const char *what, std::span<const std::uint64_t> l1, OnTable on_table)
{
    progress_.begin(what, l1.size());
    for (std::size_t i = 0; i < l1.size(); i++) {
        progress_.advance();
        if (!l1[i])
            continue;
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
        count(table, words, true);
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
            const std::uint64_t refcount = edit_.refcounts().get(format.cluster(words[i]));
            if (refcount == 0)
                refuse(fmt::format("entry {} of the L2 table at {:#x} refers to a cluster that would be free",
                                   i / format.stride(), table));
            flag = refcount == 1 ? flag_copied : 0;
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
    const std::size_t whole = first + (within != 0);
    if (whole != first && l1[first]) {
        for_each_table("cut", std::span(l1).subspan(first, 1),
                       [&](std::size_t, std::uint64_t table, std::span<std::uint64_t> words) {
                           const auto gone = words.subspan(within * format.stride());
                           if (std::all_of(gone.begin(), gone.end(), [](std::uint64_t w) { return w == 0; }))
                               return;
                           count_data(table, gone, false);
                           std::fill(gone.begin(), gone.end(), 0);
                           l1[first] = replace(table, words) | flag_copied;
                       });
    }
    drop_references(std::span(l1).subspan(std::min(whole, l1.size())));
    std::fill(l1.begin() + static_cast<std::ptrdiff_t>(std::min(whole, l1.size())), l1.end(), 0);
    return l1;
}

} // namespace liveblk::qcow2
