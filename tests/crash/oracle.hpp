// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "history.hpp"
#include "pattern.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace liveblk::crash {

// Knows from the history what each sector may hold after a crash.
//
// The writers of one sector never overlap in time, so that its versions are in a known order. Durable is the newest
// version that a completed flush or FUA covered; a crash may leave that one or any version issued since.
class Oracle {
public:
    explicit Oracle(History history);

    // Claims what was promised by the time mark came into the log, and lets in what was issued before the next one.
    // Marks only go forward; 0 is the time before the first.
    void advance_to(std::uint64_t mark);

    // Nothing when the sector may hold that; otherwise what was expected and what is there.
    std::optional<std::string> judge(std::uint64_t sector, std::span<const std::byte> content) const;

    // The same against the state at the time of a snapshot that exists by now.
    std::optional<std::string> judge_snapshot(const std::string &name, std::uint64_t sector,
                                              std::span<const std::byte> content) const;

    // A write, zeroing or discard of it is durable: whoever keeps an account of changes has to have it.
    bool surely_changed(std::uint64_t sector) const { return sector < bounds_.size() && bounds_[sector].durable > 0; }

    // Everything issued has been completed and flushed: only the newest version will do.
    void advance_to_end();

    const History &history() const { return history_; }
    std::uint64_t sectors() const { return history_.size / test::sector_size; }
    std::vector<std::string> snapshots() const;
    // Files fsynced by now: their size by number.
    const std::map<std::uint64_t, std::uint64_t> &files() const { return files_; }
    // No sector past this one was ever written to.
    std::uint64_t touched_sectors() const { return versions_.size(); }

private:
    struct Op {
        Event::Kind kind;
        std::uint64_t offset;
        std::uint64_t length;
        std::size_t issued = 0;
        std::size_t completed = SIZE_MAX; // index of the event
    };

    // Versions [0, issued) of a sector exist; [0, durable) must be there or be superseded.
    struct Bounds {
        std::uint32_t durable = 0;
        std::uint32_t issued = 0;
    };

    using Versions = std::vector<std::uint64_t>;

    void index_history();
    void claim_op(std::uint64_t id);
    void claim_completed_before(std::size_t event);
    void take_snapshot(const std::string &name);
    void admit_until(std::size_t event);
    bool discards_whole(const Op &op, std::uint64_t sector) const;
    // What a sector holds, in the terms of the history.
    struct Seen {
        bool zeros = false;
        std::uint64_t op = 0; // intact data of that op for this sector; 0: none
    };

    Seen look_at(std::uint64_t sector, std::span<const std::byte> content) const;
    bool allowed(std::uint64_t sector, Bounds bounds, Seen seen) const;
    bool version_matches(std::uint64_t id, Seen seen) const;
    std::string explain(std::uint64_t sector, Bounds bounds, std::span<const std::byte> content) const;

    History history_;
    std::unordered_map<std::uint64_t, Op> ops_;
    std::unordered_map<std::uint64_t, std::size_t> flush_begin_;
    std::map<std::uint64_t, std::size_t> mark_event_;
    std::vector<Versions> versions_; // by sector, in the order of issue
    std::vector<Bounds> bounds_;
    std::map<std::string, std::vector<Bounds>> snapshots_;
    std::map<std::uint64_t, std::uint64_t> files_;
    std::uint64_t mark_ = 0;
    std::size_t claimed_events_ = 0;
    std::size_t admitted_events_ = 0;
};

} // namespace liveblk::crash
