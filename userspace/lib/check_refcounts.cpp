// SPDX-License-Identifier: GPL-2.0-only
// Refcounts compared with what was counted, and the flags that follow from them.
#include "check.hpp"
#include "error.hpp"
#include "refcount_block.hpp"

#include <algorithm>

namespace liveblk::qcow2 {
namespace {

constexpr std::uint64_t compare_chunk = 256;

// Whether a chunk of 16-bit refcounts is what was counted, without a look at single clusters.
bool same(const std::byte *refcounts, const std::uint16_t *slots, std::uint64_t count)
{
    unsigned difference = 0;
    for (std::uint64_t i = 0; i < count; i++) {
        const unsigned counted = slots[i] & Counters::full;
        difference |= counted ^ packed_get<std::uint16_t>(refcounts, i);
        difference |= counted == Counters::full;
    }
    return difference == 0;
}

} // namespace

void Checker::count_refcount_structure()
{
    const std::uint64_t bytes = std::uint64_t{h_.reftable_clusters} << h_.cluster_bits;
    if (!claim("refcount table", h_.reftable_offset, bytes)) {
        refcounts_readable_ = image_.holds(h_.reftable_offset, bytes);
        report_.refcount_corruptions++;
        report_.structural--;
        if (!refcounts_readable_)
            return;
    }
    const std::vector<std::uint64_t> table = read_table(image_.file(), h_.reftable_offset, bytes / 8);
    for (std::size_t i = 0; i < table.size(); i++) {
        if (!table[i])
            continue;
        const std::string what = fmt::format("refcount block {}", i);
        const std::uint64_t before = report_.structural;
        if (table[i] & reftable_reserved)
            structural(what, fmt::format("reserved bits of {:#x} are set", table[i]), "refcounts are lost");
        else
            claim(what, table[i], h_.cluster_size());
        // A repair does without the old refcounts.
        report_.refcount_corruptions += report_.structural - before;
        if ((table[i] & reftable_reserved) || !image_.holds(table[i], h_.cluster_size()))
            refcounts_readable_ = false;
        report_.structural = before;
    }
}

void Checker::compare()
{
    if (!refcounts_readable_)
        return;
    const std::uint64_t table_bytes = std::uint64_t{h_.reftable_clusters} << h_.cluster_bits;
    const std::vector<std::uint64_t> table = read_table(image_.file(), h_.reftable_offset, table_bytes / 8);
    const std::uint64_t per_block = h_.cluster_size() * 8 >> h_.refcount_order;
    const std::uint64_t needed = (counters_.clusters() + per_block - 1) / per_block;
    const std::uint64_t blocks = std::min<std::uint64_t>(needed, table.size());
    const std::vector<std::byte> zeros(h_.cluster_size());
    std::vector<std::byte> block(h_.cluster_size());
    progress_.begin("compare refcounts", blocks);
    for (std::uint64_t i = 0; i < blocks; i++) {
        progress_.advance();
        if (table[i])
            image_.file().read(block, table[i]);
        compare_block(i, table[i] ? block : zeros);
    }
    progress_.end();
    compare_uncounted(blocks * per_block);
}

// Behind the refcount table all refcounts are 0.
void Checker::compare_uncounted(std::uint64_t cluster)
{
    while (cluster < counters_.clusters()) {
        const std::uint64_t end =
            std::min(counters_.clusters(), (cluster / Counters::page_size + 1) * Counters::page_size);
        if (counters_.page_if_any(cluster / Counters::page_size))
            for (std::uint64_t c = cluster; c < end; c++)
                compare_cluster(c, 0);
        cluster = end;
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
    const std::string where = fmt::format("cluster at {:#x}", cluster << h_.cluster_bits);
    const std::string what = fmt::format("refcount {}, but {} references", refcount, counted);
    if (refcount > counted) {
        report_.add(Severity::leak, where, what, "its space cannot be used");
        return;
    }
    report_.refcount_corruptions++;
    report_.add(Severity::corruption, where, what, "it will be given out, or written in place, while in use");
}

void Checker::check_active()
{
    if (!refcounts_readable_ || !image_.holds(h_.l1_offset, 8ULL * h_.l1_size))
        return;
    Refcounts refcounts(image_, Refcounts::Start::from_image);
    const std::vector<std::uint64_t> l1 = image_.read_active_l1();
    progress_.begin("check flags", l1.size());
    for (std::size_t i = 0; i < l1.size(); i++) {
        progress_.advance();
        if (!l1[i] || !reader_.valid(l1[i]))
            continue;
        const std::uint64_t table = l1[i] & offset_mask;
        check_table_flag(refcounts, i, l1[i]);
        if (image_.file().is_hole(table, h_.cluster_size()))
            continue;
        reader_.prefetch(l1, i);
        check_active_table(refcounts, table, reader_.read(table));
    }
    progress_.end();
}

void Checker::check_table_flag(Refcounts &refcounts, std::size_t index, std::uint64_t entry)
{
    const std::uint64_t refcount = refcounts.get((entry & offset_mask) >> h_.cluster_bits);
    const bool copied = entry & flag_copied;
    if ((refcount == 1) != copied)
        report_.add(
            Severity::corruption, fmt::format("active L1 entry {}", index),
            fmt::format("its COPIED flag is {}, but the L2 table's refcount is {}", copied ? "set" : "clear", refcount),
            copied ? "a snapshot's mappings will change with the disk's" : "the table is copied without need");
}

void Checker::check_active_table(Refcounts &refcounts, std::uint64_t table, std::span<const std::uint64_t> words)
{
    const L2Format &format = reader_.format();
    Run run;
    bool copied = false;
    std::size_t begin = 0;
    const auto flush = [&] {
        if (run.count)
            check_run(refcounts, table, begin, run, copied);
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
            report_.add(Severity::corruption, fmt::format("L2 table at {:#x} entry {}", table, i / format.stride()),
                        "the COPIED flag of a compressed cluster is set", "it may be written in place");
    }
    flush();
}

void Checker::check_run(Refcounts &refcounts, std::uint64_t table, std::size_t entry, const Run &run, bool copied)
{
    report_.allocated_clusters += run.count;
    report_.fragmented_clusters += next_contiguous_ && run.first != next_contiguous_;
    next_contiguous_ = run.first + run.count;
    report_.shared_clusters += copied ? 0 : run.count;
    if (!reader_.format().data_is_counted() || (copied && refcounts.all_are(run.first, run.count, 1)))
        return;
    for (std::uint64_t c = 0; c < run.count; c++) {
        const std::uint64_t refcount = refcounts.get(run.first + c);
        if ((refcount == 1) == copied)
            continue;
        report_.add(Severity::corruption, fmt::format("L2 table at {:#x} entry {}", table, entry + c),
                    fmt::format("its COPIED flag is {}, but the refcount of the cluster at {:#x} is {}",
                                copied ? "set" : "clear", (run.first + c) << h_.cluster_bits, refcount),
                    copied ? "a snapshot's data will change with the disk's" : "the cluster is copied without need");
    }
}

} // namespace liveblk::qcow2
