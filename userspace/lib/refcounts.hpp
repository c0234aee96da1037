// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "image.hpp"
#include "l2.hpp"
#include "writer.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace liveblk::qcow2 {

// The refcounts of an image as they are to become. What is on disk stays as it is until an edit is committed: a changed
// refcount block moves to a free cluster, and so does the refcount table, and the header then names the new table. So
// no cluster that the old refcounts count is ever given out.
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
    // Consecutive clusters that were free before this edit began; their refcount becomes 1.
    std::uint64_t allocate(std::uint64_t count);

    bool changed() const { return changed_; }
    // Finds places for what changed, writes it there, and notes the new table in the header.
    void write(Writer &writer, Header &header);

    // Clusters that this edit has freed, in runs.
    std::vector<Run> freed() const;
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
    std::uint64_t one_less(std::uint64_t cluster);
    std::uint64_t one_more(std::uint64_t cluster);
    void change(std::uint64_t first, std::uint64_t count, bool up);
    bool is_free(std::uint64_t cluster);
    std::uint64_t search(std::uint64_t from, std::uint64_t count);
    void place_changed_blocks();
    void place_table(Header &header);
    void write_blocks(Writer &writer) const;

    const Image &image_;
    Start start_;
    unsigned order_;
    unsigned block_bits_;
    std::uint64_t max_;
    std::uint64_t cursor_ = 1;
    std::uint64_t loaded_bytes_ = 0;
    bool changed_ = false;
    std::vector<std::uint64_t> table_;    // host offsets of the blocks
    std::vector<bool> hole_;              // blocks of the old table that take no space on the host
    std::vector<std::uint64_t> reserved_; // clusters of the old structure, only for Start::empty
    std::vector<std::unique_ptr<Block>> blocks_;
    std::uint64_t old_table_cluster_ = 0;
    std::uint64_t old_table_clusters_ = 0;
};

} // namespace liveblk::qcow2
