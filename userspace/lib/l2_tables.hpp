// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "edit.hpp"
#include "l2.hpp"
#include "progress.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace liveblk::qcow2 {

// Reads L2 tables one after the other; the next ones are already on their way.
class L2Reader {
public:
    explicit L2Reader(const Image &image);

    const L2Format &format() const { return format_; }
    bool valid(std::uint64_t l1_entry) const;
    // Words in native order, valid until the next call. The offset must have been validated.
    std::span<std::uint64_t> read(std::uint64_t offset);
    // Asks for the tables of entries from index on that are not asked for yet.
    void prefetch(std::span<const std::uint64_t> l1, std::size_t index);

private:
    const Image &image_;
    L2Format format_;
    std::vector<std::uint64_t> words_;
    std::size_t prefetched_ = 0;
};

// What edits do with all tables of an L1 table.
class L2Tables {
public:
    L2Tables(Edit &edit, Progress &progress);

    // Every table and every cluster of it counts once more, and loses its COPIED flag, for a second L1 table that is
    // like this one. Tables whose flags change are new ones.
    std::vector<std::uint64_t> share(std::vector<std::uint64_t> l1);
    void add_references(std::span<const std::uint64_t> l1);
    void drop_references(std::span<const std::uint64_t> l1);
    // Makes COPIED flags what refcounts say.
    std::vector<std::uint64_t> settle_copied(std::vector<std::uint64_t> l1);
    // Unmaps what lies at and after a cluster of the disk.
    std::vector<std::uint64_t> unmap_from(std::vector<std::uint64_t> l1, std::uint64_t guest_cluster);

private:
    template <typename OnTable>
    void for_each_table(const char *what, std::span<const std::uint64_t> l1, OnTable on_table);
    void count_data(std::uint64_t table, std::span<const std::uint64_t> words, bool up);
    void count(std::uint64_t table, std::span<const std::uint64_t> words, bool up);
    bool settle_table(std::uint64_t table, std::span<std::uint64_t> words);
    std::uint64_t replace(std::uint64_t table, std::span<const std::uint64_t> words);
    [[noreturn]] void refuse(const std::string &what) const;

    Edit &edit_;
    Progress &progress_;
    L2Reader reader_;
};

} // namespace liveblk::qcow2
