// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/progress.hpp"
#include "qcow2/edit.hpp"
#include "qcow2/l2.hpp"

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

namespace liveblk::qcow2 {

// Reads L2 tables one after the other; the next ones are already on their way.
class L2Reader {
public:
    explicit L2Reader(const Image &image);

    const L2Format &format() const { return format_; }
    bool valid(std::uint64_t l1_entry) const;
    // What reading all tables of an L1 table amounts to.
    std::uint64_t bytes_of_tables(std::span<const std::uint64_t> l1) const;
    // Words in native order, valid until the next call. The offset must have been validated.
    std::span<std::uint64_t> read(std::uint64_t offset);
    // Asks for the tables of entries from index on that are not asked for yet.
    void prefetch(std::span<const std::uint64_t> l1, std::size_t index)
    {
        prefetch(index, l1.size(), [&](std::size_t i) { return valid(l1[i]) ? l1[i] & offset_mask : 0; });
    }
    // The same with any function from an index to the offset of a table, or to 0.
    template <typename OffsetOf>
    void prefetch(std::size_t index, std::size_t size, OffsetOf offset_of)
    {
        if (index < prefetched_ && index + tables_ahead > prefetched_)
            return;
        const std::size_t end = std::min(size, index + tables_ahead);
        for (std::size_t i = index; i < end; i++)
            if (const std::uint64_t offset = offset_of(i))
                image_.file().prefetch(offset, image_.header().cluster_size());
        prefetched_ = end;
    }

private:
    static constexpr std::size_t tables_ahead = 64;

    const Image &image_;
    L2Format format_;
    std::vector<std::uint64_t> words_;
    std::size_t prefetched_ = 0;
};

// What edits do with all tables of an L1 table.
class L2Tables {
public:
    L2Tables(Edit &edit, Progress &progress);

    void add_references(std::span<const std::uint64_t> l1);
    // After that: every table and every cluster of it loses its COPIED flag, for a second L1 table that is like this
    // one. Tables whose flags change are new ones.
    std::vector<std::uint64_t> share(std::vector<std::uint64_t> l1);
    void drop_references(std::span<const std::uint64_t> l1);
    // Makes COPIED flags what refcounts say.
    std::vector<std::uint64_t> settle_copied(std::vector<std::uint64_t> l1);
    // Refuses if anything that is left after an edit would be free: the refcounts were too low before. Of snapshots
    // and the L1 table of the disk, in which what has been seen in use by settle_copied() need not be given.
    void require_in_use(std::span<const Snapshot> snapshots, std::span<const std::uint64_t> active);
    // The same for the snapshots' L1 and L2 tables, but not for their data.
    void require_tables_in_use(std::span<const Snapshot> snapshots);
    // Whether the snapshots have no other L2 tables than those of an L1 table.
    bool have_no_other_tables(std::span<const Snapshot> snapshots, std::span<const std::uint64_t> l1) const;
    // Unmaps what lies at and after a cluster of the disk.
    std::vector<std::uint64_t> unmap_from(std::vector<std::uint64_t> l1, std::uint64_t guest_cluster);

private:
    template <typename OnTable>
    void for_each_table(const char *what, std::span<const std::uint64_t> l1, OnTable on_table);
    void count_data(std::uint64_t table, std::span<const std::uint64_t> words, bool up);
    void count(std::uint64_t table, std::span<const std::uint64_t> words, bool up);
    void require_distinct(std::span<const std::uint64_t> l1) const;
    void require_in_use(std::uint64_t table, std::size_t entry, const Run &run);
    void require_in_use(const std::string &whose, std::span<const std::uint64_t> l1);
    std::vector<std::uint64_t> l1_in_use(const Snapshot &snapshot);
    void require_data_in_use(const std::string &whose, std::uint64_t table, std::span<const std::uint64_t> words);
    void require_table_in_use(const std::string &whose, std::uint64_t table);
    bool settle_table(std::uint64_t table, std::span<std::uint64_t> words);
    std::uint64_t replace(std::uint64_t table, std::span<const std::uint64_t> words);
    [[noreturn]] void refuse(const std::string &what) const;

    Edit &edit_;
    Progress &progress_;
    L2Reader reader_;
    std::unordered_set<std::uint64_t> seen_in_use_;
};

} // namespace liveblk::qcow2
