// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "disk.hpp"
#include "guest_log.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace liveblk::unit::txn {

// What an image is like. The product has no part in how it is made and looked at here.
struct Shape {
    unsigned version = 3;
    unsigned cluster_bits = 12;
    unsigned refcount_order = 4;
    bool lazy = false;
    bool snapshot = false;
    bool own_l2 = false;        // with a snapshot: the L2 tables are copies already
    bool full_reftable = false; // all that the refcount table can describe is in use, but for its end
    bool block_device = false;
    unsigned granularity_bits = 0; // of a bitmap that records; 0: there is none
    bool backwards = false;        // host clusters of later guest clusters come first
    bool extended = false;         // L2 entries have a bitmap
    std::uint64_t guest_bytes = 0;
    std::vector<std::uint64_t> data;                // guest clusters with data
    std::map<std::uint64_t, std::uint64_t> bitmaps; // of those, if entries have one

    std::uint64_t cluster() const { return std::uint64_t{1} << cluster_bits; }
    std::uint64_t subcluster() const { return cluster() / 32; }
    std::uint64_t entry_bytes() const { return extended ? 16 : 8; }
    std::uint64_t l2_entries() const { return cluster() / entry_bytes(); }
    std::uint64_t reftable_entries() const { return cluster() / 8; }
    // Whether a sector of a cluster in "data" is in its host cluster.
    bool has_data(std::uint64_t guest, std::uint64_t sector) const
    {
        return !extended || bitmaps.at(guest) >> sector * sector_bytes / subcluster() & 1;
    }
    std::uint64_t l1_entries() const { return (guest_bytes - 1) / cluster() / l2_entries() + 1; }
};

struct Image {
    Shape shape;
    Content content;
    std::uint64_t clusters = 0; // in use
    // Clusters that no change of the guest's data sets free.
    std::uint64_t fixed = 0;
};

// Room for @most bytes.
Image make_image(const Shape &shape, Arena &arena, std::uint64_t most);

// Looks at an image as it lies on a disk, and at what the guest would see of it.
class Checker {
public:
    Checker(const Shape &shape, const GuestLog &log) : shape_(shape), log_(log) {}

    // Changes that were before the log began are in the bitmap, too.
    void bitmap_is_older() { bitmap_is_older_ = true; }

    // It may be in use for good, because of a crash, or of an image that could not be loaded.
    void bitmap_may_be_in_use() { bitmap_may_be_in_use_ = true; }

    // What is wrong after a crash, if what was over before @since is to be there; empty: nothing.
    std::string after_crash(const Content &content, std::uint64_t since);

    // The same of an image that was closed.
    std::string closed(const Content &content, std::uint64_t since, bool leaks_allowed, bool space_allowed);

    // Whether the image says that its refcounts are to be made anew.
    static bool dirty(const Content &content);

    // What the guest finds in a sector, after a check.
    const Sector *guest_sector(const Content &content, std::uint64_t sector) const;

private:
    enum class Role : std::uint8_t { none, header, reftable, refblock, l1, l2, snapshots, bitmaps, data };
    struct Mapped {
        std::uint64_t guest;
        std::uint64_t host;   // 0: zeros
        std::uint64_t bitmap; // a bit for each subcluster that is there
    };
    struct Seen {
        std::uint32_t check = 0; // of which this is
        Role role = Role::none;
        std::uint32_t refs = 0;
        std::uint32_t by = 0; // bits: by whom
    };

    void bad(std::string what);
    bool see(std::uint64_t offset, std::uint64_t count, Role role, unsigned by);
    void look(const Content &content);
    void look_at_header();
    void look_at_reftable();
    void look_at_l1(std::uint64_t offset, std::uint64_t entries, unsigned by, std::vector<Mapped> &map);
    void look_at_l2(std::uint64_t l1_index, std::uint64_t offset, unsigned by, std::vector<Mapped> &map);
    void look_at_entry(std::uint64_t guest, std::uint64_t at, unsigned by, std::vector<Mapped> &map);
    const Sector *sector_of(const Content &content, const Mapped &m, std::uint64_t sector) const;
    void look_at_snapshots();
    void compare_refcounts();
    void compare_copied(std::uint64_t entry, const char *what);
    void compare_guest(std::uint64_t since);
    void compare_snapshot();
    void look_at_bitmap();
    bool bit(std::uint64_t number) const;
    void compare_bitmap(bool exact);
    void compare_leaks();
    std::uint64_t refcount(std::uint64_t cluster) const;

    const Shape &shape_;
    const GuestLog &log_;
    const Content *content_ = nullptr;
    std::string bad_;
    std::uint32_t check_ = 0;
    std::unordered_map<std::uint64_t, Seen> seen_;
    std::vector<std::uint64_t> found_;   // clusters
    std::vector<std::uint64_t> entries_; // of the active L1 and L2 tables that refer to something
    std::vector<Mapped> active_;
    std::vector<Mapped> snapshot_;
    std::uint64_t reftable_ = 0;
    std::uint64_t reftable_entries_ = 0;
    bool bitmap_is_older_ = false;
    bool bitmap_may_be_in_use_ = false;
    bool bitmap_in_use_ = false;
    std::uint64_t bitmap_entry_ = 0; // of the bitmap's table: it has one
};

} // namespace liveblk::unit::txn
