// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace liveblk::crash {

// What the workload did, in order; one line of text each in the history file:
//   W|F|Z|D <op> <offset> <length>   issued: write, FUA write, write-zeroes, discard
//   c <op>                           completed
//   b <flush>                        a flush is about to be sent: it covers every op completed by now
//   m <mark> flush <flush>           that flush completed and mark <mark> was put into the log
//   m <mark> op <op>                 the FUA write <op> completed and the mark was put into the log
//   m <mark> snapshot <name>         an internal snapshot exists, holding what was there by now
//   m <mark> file <file> <size>      a stamped file of that size was fsynced
struct Event {
    enum class Kind {
        write,
        fua_write,
        write_zeroes,
        discard,
        complete,
        flush_begin,
        mark_flush,
        mark_op,
        mark_snapshot,
        mark_file,
    };

    Kind kind = Kind::write;
    std::uint64_t id = 0;     // op, flush, or what the mark is about
    std::uint64_t offset = 0; // bytes
    std::uint64_t length = 0;
    std::uint64_t mark = 0;
    std::string name = {};

    bool is_issue() const { return kind <= Kind::discard; }
    bool is_mark() const { return kind >= Kind::mark_flush; }
};

// A history with the facts of the device it was made on.
struct History {
    std::uint64_t seed = 0;
    std::uint64_t size = 0;         // bytes of the device the workload saw
    std::uint64_t cluster_size = 0; // discards of less than that promise nothing
    std::vector<Event> events;

    void save(const std::string &path) const;
    static History load(const std::string &path);
};

// The text of a mark in the log, and back; 0 for marks that are not the workload's.
std::string mark_text(std::uint64_t mark);
std::uint64_t parse_mark(const std::string &text);

// Around what foreign tools write, where no crash is simulated.
inline constexpr const char *foreign_begin_mark = "foreign-begin";
inline constexpr const char *foreign_end_mark = "foreign-end";

} // namespace liveblk::crash
