// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "qcow2/image.hpp"
#include "qcow2/l2.hpp"
#include "qcow2/writer.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace liveblk::qcow2 {

// Which free clusters may be given out. A damaged image can have clusters in use whose refcount is 0, so the more of
// them are in reach, the more has to be known about what is in use.
enum class Reach {
    behind_end, // none that the file has
    holes,      // also those in which the host has nothing, so that no data is lost whatever refers to them
    everywhere, // all of them
};

// The refcounts of an image as they are to become. What is on disk stays as it is until an edit is committed: a changed
// refcount block moves to a free cluster, and so does the refcount table, and the header then names the new table. So
// no cluster that the old refcounts count is ever given out; those that the edit itself frees are not either.
class Refcounts {
public:
    enum class Start {
        from_image, // read as needed
        empty,      // counted anew by the caller; what is on disk is only kept from being overwritten
    };
    Refcounts(const Image &image, Start start);

    std::uint64_t max() const { return max_; }
    std::uint64_t get(std::uint64_t cluster);
    // Whether none of them has a refcount of 0.
    bool all_in_use(std::uint64_t first, std::uint64_t count);
    // Clusters up to the next one that may have another refcount than 0, at a low price.
    std::uint64_t zeros_from(std::uint64_t cluster) const;
    void set(std::uint64_t cluster, std::uint64_t value);
    // One reference more or less to clusters that are in use; throws on a contradiction.
    void increment(std::uint64_t first, std::uint64_t count) { change(first, count, true); }
    void decrement(std::uint64_t first, std::uint64_t count) { change(first, count, false); }
    // Lets free clusters of the file be given out, but none of these, nor of the old refcount structure.
    void reach(Reach reach, std::vector<std::uint64_t> reserved);
    void reach(Reach reach) { reach_ = reach; }
    // Consecutive clusters that were free before this edit began, the first ones in reach; their refcount becomes 1.
    std::uint64_t allocate(std::uint64_t count);
    // Those of them that the file had.
    const std::vector<Run> &reused() const { return reused_; }

    bool changed() const { return changed_; }
    // Finds places for what changed, and notes the new table in the header; then writes it there.
    void place(Header &header);
    void write(Writer &writer, const Header &header) const;

    // Clusters that this edit has freed, in runs.
    std::vector<Run> freed() const;
    // Calls fn(run) for all clusters with a refcount of 0 in front of a cluster.
    template <typename Fn>
    void for_each_free_run(std::uint64_t end, Fn fn)
    {
        for (std::uint64_t at = 1; (at = next_zero(at, end)) < end;) {
            Run run = {at, 0};
            while (at < end && !get(at)) {
                const std::uint64_t n = std::min(end - at, std::max<std::uint64_t>(1, zeros_from(at)));
                run.count += n;
                at += n;
            }
            fn(run);
        }
    }
    // After the last cluster in use.
    std::uint64_t end_of_use();

private:
    struct Block {
        std::vector<std::byte> data;
        std::vector<std::uint64_t> freed; // a bit for each cluster that had its last reference taken
        bool changed = false;
        bool placed = false;
    };

    std::uint64_t per_block() const { return 1ULL << block_bits_; }
    void look_at_old_blocks();
    bool all_zero(std::uint64_t index) const
    {
        return index >= table_.size() || (!blocks_[index] && (!table_[index] || hole_[index]));
    }
    Block &load_block(std::uint64_t index);
    Block &change_block(std::uint64_t index);
    void reserve_old_structure();
    std::uint64_t next_zero(std::uint64_t from, std::uint64_t end);
    std::uint64_t one_less(std::uint64_t cluster);
    std::uint64_t one_more(std::uint64_t cluster);
    void change(std::uint64_t first, std::uint64_t count, bool up);
    bool is_free(std::uint64_t cluster);
    std::uint64_t next_free(std::uint64_t from, std::uint64_t end);
    std::optional<std::uint64_t> free_run(std::uint64_t from, std::uint64_t end, std::uint64_t count);
    Run next_in_reach(std::uint64_t from);
    std::optional<std::uint64_t> search_file(std::uint64_t count);
    std::uint64_t search_behind(std::uint64_t from, std::uint64_t count);
    void note_reused(std::uint64_t first, std::uint64_t count);
    void place_changed_blocks();
    void write_blocks(Writer &writer) const;

    const Image &image_;
    Start start_;
    unsigned order_;
    unsigned block_bits_;
    std::uint64_t max_;
    Reach reach_ = Reach::behind_end;
    std::uint64_t file_end_ = 0;           // whole clusters that the file had; of a device, those up to the last in use
    std::uint64_t file_cursor_ = 1;        // in front of it nothing is free in reach
    std::uint64_t no_run_of_ = UINT64_MAX; // nor are so many in a row anywhere in the file
    std::uint64_t searched_bytes_ = 0;     // loaded in search of free clusters
    std::uint64_t holes_seen_ = 0;
    std::vector<Run> reused_;
    std::uint64_t cursor_ = 1; // behind file_end_
    std::uint64_t loaded_bytes_ = 0;
    bool changed_ = false;
    std::vector<std::uint64_t> table_;    // host offsets of the blocks
    std::vector<bool> hole_;              // blocks of the old table that take no space on the host
    std::vector<std::uint64_t> reserved_; // clusters that are not given out whatever their refcount is
    std::vector<std::unique_ptr<Block>> blocks_;
    std::uint64_t old_table_cluster_ = 0;
    std::uint64_t old_table_clusters_ = 0;
};

} // namespace liveblk::qcow2
