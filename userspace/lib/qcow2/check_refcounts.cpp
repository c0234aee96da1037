// SPDX-License-Identifier: GPL-2.0-only
// Refcounts compared with what was counted, and the flags that follow from them.
#include "base/error.hpp"
#include "qcow2/check.hpp"
#include "qcow2/refcount_block.hpp"

#include <algorithm>

namespace liveblk::qcow2 {
namespace {

constexpr std::uint64_t compare_chunk = 256;
// In the place of a block's offset: its refcounts are not known.
constexpr std::uint64_t unreadable = UINT64_MAX;

// Whether a chunk of 16-bit refcounts is what was counted, without a look at single clusters.
bool same(const std::byte *refcounts, const std::uint16_t *slots, std::uint64_t count)
{
    unsigned difference = 0;
    for (std::uint64_t i = 0; i < count; i++) {
        const unsigned counted = slots[i] & Counters::full;
        difference |= counted ^ refcount_get_16(refcounts, i);
        difference |= counted == Counters::full;
    }
    return difference == 0;
}

} // namespace

void Checker::count_refcount_structure()
{
    const std::uint64_t before = report_.structural;
    const std::uint64_t bytes = std::uint64_t{h_.reftable_clusters} << h_.cluster_bits;
    const bool readable = claim("refcount table", h_.reftable_offset, bytes);
    if (readable) {
        blocks_.resize(bytes / 8);
        for_each_entry(image_.file(), h_.reftable_offset, bytes / 8, [&](std::uint64_t i, std::uint64_t entry) {
            const auto name = [&] { return fmt::format("refcount block {}", i); };
            blocks_[i] = unreadable;
            if (entry & reftable_reserved)
                structural(
                    name, [&] { return fmt::format("reserved bits of {:#x} are set", entry); }, "refcounts are lost");
            else if (claim(name, entry, h_.cluster_size()))
                blocks_[i] = entry;
        });
    }
    // A repair does without the old refcounts, so damage here is not of the structural kind.
    report_.refcount_corruptions += report_.structural - before;
    report_.structural = before;
}

void Checker::compare()
{
    const std::uint64_t per_block = h_.cluster_size() * 8 >> h_.refcount_order;
    const std::uint64_t needed = (counters_.clusters() + per_block - 1) / per_block;
    const std::uint64_t blocks = std::min<std::uint64_t>(needed, blocks_.size());
    if (!blocks)
        return;
    std::vector<std::byte> block(h_.cluster_size());
    progress_.begin("compare refcounts", blocks << h_.cluster_bits);
    for (std::uint64_t i = 0; i < blocks; i++) {
        progress_.advance(h_.cluster_size());
        if (blocks_[i] == unreadable)
            continue;
        if (!blocks_[i] || image_.file().is_hole(blocks_[i], h_.cluster_size())) {
            compare_zeros(i * per_block, (i + 1) * per_block);
            continue;
        }
        image_.file().read(block, blocks_[i]);
        compare_block(i, block);
    }
    progress_.end();
    // Behind the refcount table all refcounts are 0.
    compare_zeros(blocks * per_block, counters_.clusters());
}

// In a time that what is in use there determines, and not how much there is.
void Checker::compare_zeros(std::uint64_t cluster, std::uint64_t end)
{
    end = std::min(end, counters_.clusters());
    while (cluster < end) {
        const std::uint64_t page_end = std::min(end, (cluster / Counters::page_size + 1) * Counters::page_size);
        if (counters_.page_if_any(cluster / Counters::page_size)) {
            for (std::uint64_t c = cluster; c < page_end; c++) {
                if (!counters_.get(c))
                    continue;
                compare_cluster(c, 0);
                report_.image_end_offset = (c + 1) << h_.cluster_bits;
            }
        }
        cluster = page_end;
    }
}

void Checker::compare_block(std::uint64_t index, std::span<const std::byte> block)
{
    static const Counters::Page nothing{};
    const std::uint64_t per_block = block.size() * 8 >> h_.refcount_order;
    const std::uint64_t chunk = std::min(per_block, compare_chunk);
    const std::uint64_t base = index * per_block;
    for (std::uint64_t at = 0; at < per_block && base + at < counters_.clusters(); at += chunk) {
        const std::uint64_t first = base + at;
        const Counters::Page *page = counters_.page_if_any(first / Counters::page_size);
        const std::uint16_t *slots = (page ? *page : nothing).data() + first % Counters::page_size;
        const std::uint64_t n = std::min(chunk, counters_.clusters() - first);
        const bool slow = h_.refcount_order != 4 || !same(block.data() + at * 2, slots, n);
        for (std::uint64_t i = 0; slow && i < n; i++)
            compare_cluster(first + i, refcount_get(block, at + i, h_.refcount_order));
        for (std::uint64_t i = n; i-- > 0;) {
            if (!(slots[i] & Counters::full) && !refcount_get(block, at + i, h_.refcount_order))
                continue;
            report_.image_end_offset = (first + i + 1) << h_.cluster_bits;
            break;
        }
    }
}

void Checker::compare_cluster(std::uint64_t cluster, std::uint64_t refcount)
{
    const std::uint64_t counted = counters_.get(cluster);
    if (counted == refcount)
        return;
    if ((refcount == 1) != (counted == 1))
        counters_.mark_differs(cluster);
    const auto where = [&] { return fmt::format("cluster at {:#x}", cluster << h_.cluster_bits); };
    const auto what = [&] { return fmt::format("refcount {}, but {} references", refcount, counted); };
    if (refcount > counted) {
        report_.add(Severity::leak, where, what, "its space cannot be used");
        return;
    }
    report_.refcount_corruptions++;
    report_.add(Severity::corruption, where, what, "it will be given out, or written in place, while in use");
}

void Checker::check_active()
{
    if (blocks_.empty() || !image_.holds(h_.l1_offset, 8ULL * h_.l1_size))
        return;
    const std::vector<std::uint64_t> l1 = image_.read_active_l1();
    progress_.begin("check flags", reader_.bytes_of_tables(l1));
    for (std::size_t i = 0; i < l1.size(); i++) {
        if (!l1[i])
            continue;
        progress_.advance(h_.cluster_size());
        if (!reader_.valid(l1[i]))
            continue;
        const std::uint64_t table = l1[i] & offset_mask;
        check_table_flag(i, l1[i]);
        if (!to_be_checked(table) || image_.file().is_hole(table, h_.cluster_size()))
            continue;
        reader_.prefetch(l1, i);
        check_active_table(table, reader_.read(table));
    }
    progress_.end();
}

// Each is looked at once, however many entries refer to it.
bool Checker::to_be_checked(std::uint64_t table)
{
    const auto it = std::lower_bound(tables_.begin(), tables_.end(), table,
                                     [](const TableUse &use, std::uint64_t offset) { return use.offset < offset; });
    if (it == tables_.end() || it->offset != table)
        return false;
    const auto index = static_cast<std::size_t>(it - tables_.begin());
    const bool first = to_check_[index];
    to_check_[index] = false;
    return first;
}

void Checker::check_table_flag(std::size_t index, std::uint64_t entry)
{
    const bool one = counters_.refcount_is_one((entry & offset_mask) >> h_.cluster_bits);
    const bool copied = entry & flag_copied;
    if (one != copied)
        report_.add(
            Severity::corruption, [&] { return fmt::format("active L1 entry {}", index); },
            [&] {
                return fmt::format("its COPIED flag is {}, but the L2 table's refcount is {}", copied ? "set" : "clear",
                                   copied ? "not 1" : "1");
            },
            copied ? "a snapshot's mappings will change with the disk's" : "the table is copied without need");
}

void Checker::check_active_table(std::uint64_t table, std::span<const std::uint64_t> words)
{
    const L2Format &format = reader_.format();
    Run run;
    bool copied = false;
    std::size_t begin = 0;
    const auto flush = [&] {
        if (run.count)
            check_run(table, begin, run, copied);
        run.count = 0;
    };
    for (std::size_t i = 0; i < words.size(); i += format.stride()) {
        const std::uint64_t entry = words[i];
        if (!entry)
            continue;
        const ClusterType type = format.type(entry);
        if (type == ClusterType::normal || type == ClusterType::zero_allocated) {
            report_.zero_clusters += type == ClusterType::zero_allocated;
            const std::uint64_t cluster = format.cluster(entry);
            const bool flag = entry & flag_copied;
            if (run.count && cluster == run.first + run.count && flag == copied) {
                run.count++;
                continue;
            }
            flush();
            run = {cluster, 1};
            copied = flag;
            begin = i / format.stride();
            continue;
        }
        report_.zero_clusters += type == ClusterType::zero_plain;
        if (type != ClusterType::compressed)
            continue;
        report_.compressed_clusters++;
        report_.allocated_clusters++;
        report_.fragmented_clusters++; // as qemu-img counts them
        if (entry & flag_copied)
            report_.add(
                Severity::corruption,
                [&] { return fmt::format("L2 table at {:#x} entry {}", table, i / format.stride()); },
                "the COPIED flag of a compressed cluster is set", "it may be written in place");
    }
    flush();
}

void Checker::check_run(std::uint64_t table, std::size_t entry, const Run &run, bool copied)
{
    report_.allocated_clusters += run.count;
    report_.fragmented_clusters += next_contiguous_ && run.first != next_contiguous_;
    next_contiguous_ = run.first + run.count;
    report_.shared_clusters += copied ? 0 : run.count;
    if (!reader_.format().data_is_counted() || (copied && counters_.all_are_one(run.first, run.count)))
        return;
    for (std::uint64_t c = 0; c < run.count; c++) {
        if (counters_.refcount_is_one(run.first + c) == copied)
            continue;
        report_.add(
            Severity::corruption, [&] { return fmt::format("L2 table at {:#x} entry {}", table, entry + c); },
            [&] {
                return fmt::format("its COPIED flag is {}, but the refcount of the cluster at {:#x} is {}",
                                   copied ? "set" : "clear", (run.first + c) << h_.cluster_bits,
                                   copied ? "not 1" : "1");
            },
            copied ? "a snapshot's data will change with the disk's" : "the cluster is copied without need");
    }
}

} // namespace liveblk::qcow2
