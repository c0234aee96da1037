// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "log_writes.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace liveblk::crash {

// What lies between two flushes of the log.
//
// Within a window the log first holds the FUA writes in the order of their completion, then everything else, which was
// only known to be complete when the flush at the window's end was sent. So a crash inside the window finds one of:
//  - the first k FUA writes and nothing of the rest (with FUA write k+1 torn, perhaps);
//  - all FUA writes and any subset of the sectors of the rest.
// Fewer FUA writes together with some of the rest would be wrong: the rest may have been sent only after them.
struct Window {
    std::vector<std::size_t> immediate; // indices of FUA writes
    std::vector<std::size_t> cached;    // indices of other writes and of discards
    std::optional<std::size_t> flush;
    bool foreign = false;                       // written by a tool, not by the target under test
    std::uint64_t mark_before = 0;              // newest mark when the window begins, those right after the flush too
    std::vector<std::uint64_t> immediate_marks; // newest mark before the next FUA write, for each FUA write
    std::uint64_t mark_inside = 0;              // newest mark in the window

    bool empty() const { return immediate.empty() && cached.empty(); }
};

std::vector<Window> split_windows(const std::vector<LogEntry> &entries);

// One place to crash at.
struct Point {
    enum class Kind {
        torn_fua,    // FUA writes before `position`, and that one in part
        after_fua,   // FUA writes up to and with `position`
        prefix,      // all FUA writes and the first `position` others, the next one torn
        subset,      // all FUA writes and any of the others
        after_flush, // everything in the window
    };

    std::size_t window = 0;
    Kind kind = Kind::after_flush;
    std::size_t position = 0;
    std::uint64_t seed = 0;

    bool is_boundary() const { return kind == Kind::after_fua || kind == Kind::after_flush; }
};

std::string describe(const Point &point);

// In the order of the log, all of them.

// Every boundary, and `between` points between boundaries.
std::vector<Point> plan_all(const std::vector<Window> &windows, std::uint64_t seed, std::size_t between);

// `each` points between boundaries in every window that is close to where a tool had the image, or to the end: where a
// target hands it over, and takes it.
std::vector<Point> plan_turns(const std::vector<Window> &windows, std::uint64_t seed, std::size_t each);

// About `count` points: all boundaries if they are no more than half of that, else a sample of them.
std::vector<Point> plan_points(const std::vector<Window> &windows, std::uint64_t seed, std::size_t count);

} // namespace liveblk::crash
