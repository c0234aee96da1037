// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdint>
#include <string>

namespace liveblk::unit::txn {

// What there was of it in some histories.
struct Totals {
    std::uint64_t histories = 0;
    std::uint64_t writes = 0;
    std::uint64_t flushes = 0;
    std::uint64_t crashes = 0;
    std::uint64_t crash_reloads = 0;
    std::uint64_t out_of_space = 0;
    std::uint64_t failed_requests = 0;
    std::uint64_t failed_closes = 0;
    std::uint64_t moved_reftables = 0;
};

// What a history is about; all else is left to its seed.
enum class Theme {
    any,
    growing_table, // the refcount table is full
    short_of_space,
    much_metadata, // more than is cached, and more than may wait to be written
    many_frees,    // more than may wait to be freed
    extended,      // L2 entries with subclusters
};

// One history: an image is made, used by several jobs at a time, closed, and used again. Returns what was wrong; empty:
// nothing.
std::string run_history(std::uint64_t seed, Theme theme, Totals &totals);

} // namespace liveblk::unit::txn
