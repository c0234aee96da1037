// SPDX-License-Identifier: GPL-2.0-only
#include "recorder.hpp"

#include "device_mapper.hpp"

#include <fmt/core.h>

namespace liveblk::crash {

using Kind = Event::Kind;

Recorder::Recorder(std::string log_device, std::uint64_t seed, std::uint64_t size, std::uint64_t cluster_size)
    : log_device_(std::move(log_device)), history_{seed, size, cluster_size, {}}
{
}

void Recorder::record(Event event)
{
    const std::lock_guard lock(mutex_);
    history_.events.push_back(std::move(event));
}

std::uint64_t Recorder::issue(Kind kind, std::uint64_t offset, std::uint64_t length)
{
    const std::lock_guard lock(mutex_);
    history_.events.push_back({kind, next_op_, offset, length, 0, {}});
    in_flight_.insert(next_op_);
    return next_op_++;
}

void Recorder::complete(std::uint64_t op)
{
    const std::lock_guard lock(mutex_);
    history_.events.push_back({Kind::complete, op, 0, 0, 0, {}});
    in_flight_.erase(op);
}

Recorder::Flush Recorder::begin_flush()
{
    const std::lock_guard lock(mutex_);
    history_.events.push_back({Kind::flush_begin, next_flush_, 0, 0, 0, {}});
    return {next_flush_++, in_flight_.empty() ? next_op_ : *in_flight_.begin()};
}

// The event comes after the message: what is issued in between is then counted as older than the mark, which allows
// too much by a hair and never too little.
void Recorder::mark(Event event)
{
    const std::lock_guard lock(marking_);
    event.mark = next_mark_++;
    send_message(log_device_, "mark " + mark_text(event.mark));
    record(std::move(event));
}

void Recorder::mark_flush(std::uint64_t flush)
{
    mark({Kind::mark_flush, flush, 0, 0, 0, {}});
}

void Recorder::mark_op(std::uint64_t op)
{
    mark({Kind::mark_op, op, 0, 0, 0, {}});
}

void Recorder::mark_snapshot(const std::string &name)
{
    mark({Kind::mark_snapshot, 0, 0, 0, 0, name});
}

void Recorder::mark_file(std::uint64_t number, std::uint64_t size)
{
    mark({Kind::mark_file, number, 0, size, 0, {}});
}

void Recorder::begin_foreign()
{
    send_message(log_device_, fmt::format("mark {}", foreign_begin_mark));
}

void Recorder::end_foreign()
{
    send_message(log_device_, fmt::format("mark {}", foreign_end_mark));
}

} // namespace liveblk::crash
