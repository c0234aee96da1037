// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "disk.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

namespace liveblk::unit::txn {

constexpr std::size_t sector_bytes = 512;

using Sector = std::array<std::uint8_t, sector_bytes>;

// Memory of sectors; all of it goes at once.
class Arena {
public:
    const Sector *keep(std::span<const std::uint8_t> content);
    void clear() { used_ = 0; }

private:
    static constexpr std::size_t chunk = 512;
    std::vector<std::unique_ptr<Sector[]>> chunks_;
    std::size_t used_ = 0;
};

// Sectors by number; those of zeros are nullptr. Content is shared: it never changes.
class SectorMap {
public:
    explicit SectorMap(const Sector *nothing = nullptr) : nothing_(nothing) {}

    const Sector *get(std::uint64_t sector) const;
    void set(std::uint64_t sector, const Sector *content);

    // From there on there are zeros.
    void cut(std::uint64_t sector);

private:
    using Chunk = std::array<const Sector *, 128>;
    const Sector *nothing_;
    std::vector<std::shared_ptr<Chunk>> chunks_;
};

// What a disk holds at some time: what a checker looks at.
struct Content {
    SectorMap sectors;
    std::uint64_t size = 0;

    // Beyond the end there are zeros.
    const Sector *get(std::uint64_t sector) const
    {
        return sector * sector_bytes < size ? sectors.get(sector) : nullptr;
    }
    std::uint64_t be64(std::uint64_t pos) const { return number(pos, 8); }
    std::uint64_t number(std::uint64_t pos, unsigned bytes) const;
    bool is_zero(std::uint64_t sector) const { return !get(sector); }

    // What is beyond the end is not there if it is ever made longer.
    void cut() { sectors.cut(size / sector_bytes); }
};

// How often which operation fails: those of an outage, and others.
struct Faults {
    unsigned reads = 0; // percent
    unsigned writes = 0;
    unsigned flushes = 0;
    unsigned extends = 0;
    unsigned outages = 0; // begin with one in a thousand operations for each
};

struct Traffic {
    std::uint64_t writes = 0;
    std::uint64_t flushes = 0;
    std::uint64_t crashes = 0;
};

} // namespace liveblk::unit::txn

// A disk with a volatile cache that crashes: whenever something is written or flushed it has what a crash could leave
// looked at.
struct disk {
public:
    using Content = liveblk::unit::txn::Content;
    using Arena = liveblk::unit::txn::Arena;
    using Sector = liveblk::unit::txn::Sector;

    // What is to be said of the content after a crash: nothing, or the end of the run.
    using Check = std::function<void(const Content &after_crash)>;

    disk(Arena &arena, const Content &content, std::uint64_t most, bool block_device);

    void set_check(Check check) { check_ = std::move(check); }
    void set_faults(const liveblk::unit::txn::Faults &faults)
    {
        faults_ = faults;
        outage_ = false;
    }
    const liveblk::unit::txn::Traffic &traffic() const { return traffic_; }
    const Content &now() const { return now_; }

    int fate(disk_op op);
    std::uint64_t size() const { return now_.size; }
    std::uint64_t most() const { return most_; }
    void read(std::uint64_t pos, std::span<std::uint8_t> to) const;
    std::uint64_t write_begin(std::uint64_t pos, std::span<const std::uint8_t> from);
    void write_end(std::uint64_t id, int err);
    std::uint64_t flush_begin();
    void flush_end(std::uint64_t id, int err);
    void discard(std::uint64_t pos, std::uint64_t len);
    void resize(std::uint64_t size);

private:
    // Sectors from @first on that change, or the size that does.
    struct Change {
        std::uint64_t first = 0;
        std::vector<const Sector *> sectors;
        bool resizes = false;
        std::uint64_t size = 0;
    };
    // What was there before.
    struct Undo {
        std::vector<std::pair<std::uint64_t, const Sector *>> sectors;
        std::uint64_t size = 0;
    };
    enum class Part { none, some, all };

    static void apply(Content &content, const Change &change);
    void apply_part(const Change &change, Part part, Undo &undo);
    void crash(Part part);
    void crashes();
    void end(Change change);
    void check_inside(std::uint64_t pos, std::uint64_t len) const;
    std::vector<const Sector *> keep(std::span<const std::uint8_t> from);

    Arena &arena_;
    Content durable_;
    Content now_;
    std::uint64_t most_;
    bool block_device_;
    std::deque<Change> cached_; // ended, and not flushed since
    std::uint64_t flushed_ = 0; // number of changes that were
    std::map<std::uint64_t, Change> under_way_;
    std::uint64_t next_id_ = 0;
    Check check_;
    liveblk::unit::txn::Faults faults_;
    bool outage_ = false;
    liveblk::unit::txn::Traffic traffic_;
};
