// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "history.hpp"

#include <mutex>
#include <set>
#include <string>

namespace liveblk::crash {

// Writes the history while the workload runs, and puts marks into the log at the moments that it names.
class Recorder {
public:
    // log_device: name of the dm-log-writes device.
    Recorder(std::string log_device, std::uint64_t seed, std::uint64_t size, std::uint64_t cluster_size);

    std::uint64_t issue(Event::Kind kind, std::uint64_t offset, std::uint64_t length);
    void complete(std::uint64_t op);

    // The flush covers every op older than first_uncovered, and maybe later ones.
    struct Flush {
        std::uint64_t number;
        std::uint64_t first_uncovered;
    };
    Flush begin_flush();

    // What the flush covers is in the log by now: flushes get there one at a time (tests/kernel/dm-flush-order.c).
    void mark_flush(std::uint64_t flush);
    void mark_op(std::uint64_t op);
    void mark_snapshot(const std::string &name);
    void mark_file(std::uint64_t number, std::uint64_t size);

    void begin_foreign();
    void end_foreign();

    const History &history() const { return history_; }

private:
    void mark(Event event);
    void record(Event event);

    std::string log_device_;
    std::mutex mutex_;
    std::mutex marking_; // marks are in the log in the order of their numbers
    History history_;
    std::set<std::uint64_t> in_flight_;
    std::uint64_t next_op_ = 1;
    std::uint64_t next_flush_ = 1;
    std::uint64_t next_mark_ = 1;
};

} // namespace liveblk::crash
