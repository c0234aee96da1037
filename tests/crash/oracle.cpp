// SPDX-License-Identifier: GPL-2.0-only
#include "oracle.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <stdexcept>

namespace liveblk::crash {
namespace {

using Kind = Event::Kind;
constexpr std::uint64_t sector_size = test::sector_size;

} // namespace

Oracle::Oracle(History history) : history_(std::move(history))
{
    index_history();
    bounds_.resize(versions_.size());
    advance_to(0);
}

void Oracle::index_history()
{
    for (std::size_t i = 0; i < history_.events.size(); i++) {
        const Event &event = history_.events[i];
        if (event.is_issue()) {
            if (event.length == 0 || event.offset % sector_size || event.length % sector_size ||
                event.offset + event.length > history_.size)
                throw std::runtime_error(fmt::format("history: op {} has an impossible range", event.id));
            ops_[event.id] = {event.kind, event.offset, event.length, i};
            const std::uint64_t end = (event.offset + event.length) / sector_size;
            versions_.resize(std::max<std::size_t>(versions_.size(), end));
            for (std::uint64_t s = event.offset / sector_size; s < end; s++)
                versions_[s].push_back(event.id);
        } else if (event.kind == Kind::complete) {
            ops_.at(event.id).completed = i;
        } else if (event.kind == Kind::flush_begin) {
            flush_begin_[event.id] = i;
        } else {
            mark_event_[event.mark] = i;
        }
    }
}

void Oracle::advance_to(std::uint64_t mark)
{
    if (mark < mark_)
        throw std::logic_error("the oracle cannot go back");
    if (mark && !mark_event_.contains(mark))
        throw std::runtime_error(fmt::format("mark {} of the log is not in the history", mark));
    for (auto it = mark_event_.upper_bound(mark_); it != mark_event_.end() && it->first <= mark; ++it) {
        const Event &event = history_.events[it->second];
        if (event.kind == Kind::mark_flush) {
            claim_completed_before(flush_begin_.at(event.id));
        } else if (event.kind == Kind::mark_op) {
            claim_op(event.id);
        } else if (event.kind == Kind::mark_snapshot) {
            admit_until(it->second);
            take_snapshot(event.name);
        } else {
            files_[event.id] = std::max(files_[event.id], event.length);
        }
    }
    mark_ = mark;
    const auto next = mark_event_.upper_bound(mark);
    admit_until(next == mark_event_.end() ? history_.events.size() : next->second);
}

void Oracle::advance_to_end()
{
    if (!mark_event_.empty())
        advance_to(mark_event_.rbegin()->first);
    for (Bounds &bounds : bounds_)
        bounds.durable = bounds.issued;
}

void Oracle::claim_op(std::uint64_t id)
{
    const Op &op = ops_.at(id);
    admit_until(op.issued + 1);
    for (std::uint64_t s = op.offset / sector_size; s < (op.offset + op.length) / sector_size; s++) {
        const auto at = std::find(versions_[s].begin(), versions_[s].end(), id);
        const auto place = static_cast<std::uint32_t>(at - versions_[s].begin() + 1);
        bounds_[s].durable = std::max(bounds_[s].durable, place);
    }
}

void Oracle::claim_completed_before(std::size_t event)
{
    for (; claimed_events_ < event; claimed_events_++) {
        const Event &candidate = history_.events[claimed_events_];
        if (candidate.kind == Kind::complete)
            claim_op(candidate.id);
    }
}

void Oracle::take_snapshot(const std::string &name)
{
    // The workload was at rest: each sector has one state, which the newest version defines.
    auto state = bounds_;
    for (Bounds &bounds : state)
        bounds.durable = bounds.issued;
    snapshots_[name] = std::move(state);
}

void Oracle::admit_until(std::size_t event)
{
    for (; admitted_events_ < event; admitted_events_++) {
        const Event &candidate = history_.events[admitted_events_];
        if (!candidate.is_issue())
            continue;
        const std::uint64_t end = (candidate.offset + candidate.length) / sector_size;
        for (std::uint64_t s = candidate.offset / sector_size; s < end; s++)
            bounds_[s].issued++;
    }
}

bool Oracle::discards_whole(const Op &op, std::uint64_t sector) const
{
    const std::uint64_t cluster = sector * sector_size / history_.cluster_size * history_.cluster_size;
    return cluster >= op.offset && std::min(cluster + history_.cluster_size, history_.size) <= op.offset + op.length;
}

Oracle::Seen Oracle::look_at(std::uint64_t sector, std::span<const std::byte> content) const
{
    if (test::is_zero(content))
        return {true, 0};
    const auto stamp = test::intact_stamp(content);
    const bool ours = stamp && stamp->seed == history_.seed && stamp->sector == sector;
    return {false, ours ? stamp->op : 0};
}

bool Oracle::version_matches(std::uint64_t id, Seen seen) const
{
    const Op &op = ops_.at(id);
    const bool zero = op.kind == Kind::write_zeroes || op.kind == Kind::discard;
    return zero ? seen.zeros : seen.op == id;
}

bool Oracle::allowed(std::uint64_t sector, Bounds bounds, Seen seen) const
{
    const Versions &versions = versions_[sector];
    for (std::uint32_t v = bounds.durable; v < bounds.issued; v++)
        if (version_matches(versions[v], seen))
            return true;
    // A durable discard of a part of a cluster may have left what was there before.
    for (std::uint32_t v = bounds.durable; v > 0; v--) {
        if (version_matches(versions[v - 1], seen))
            return true;
        const Op &op = ops_.at(versions[v - 1]);
        if (op.kind != Kind::discard || discards_whole(op, sector))
            return false;
    }
    return seen.zeros;
}

std::string Oracle::explain(std::uint64_t sector, Bounds bounds, std::span<const std::byte> content) const
{
    std::string expected;
    if (bounds.durable == 0)
        expected = "zeros";
    for (std::uint32_t v = bounds.durable ? bounds.durable - 1 : 0; v < bounds.issued; v++) {
        const Op &op = ops_.at(versions_[sector][v]);
        const bool zero = op.kind == Kind::write_zeroes || op.kind == Kind::discard;
        expected += fmt::format("{}{} op {}", expected.empty() ? "" : ", or ", zero ? "the zeros of" : "the data of",
                                versions_[sector][v]);
    }
    return fmt::format("sector {}: expected {}; found {}", sector, expected, test::describe_sector(content));
}

std::optional<std::string> Oracle::judge(std::uint64_t sector, std::span<const std::byte> content) const
{
    if (sector >= versions_.size()) {
        if (test::is_zero(content))
            return std::nullopt;
        return fmt::format("sector {}: never written; found {}", sector, test::describe_sector(content));
    }
    if (allowed(sector, bounds_[sector], look_at(sector, content)))
        return std::nullopt;
    return explain(sector, bounds_[sector], content);
}

std::optional<std::string> Oracle::judge_snapshot(const std::string &name, std::uint64_t sector,
                                                  std::span<const std::byte> content) const
{
    const auto &state = snapshots_.at(name);
    if (sector >= versions_.size())
        return judge(sector, content);
    if (allowed(sector, state[sector], look_at(sector, content)))
        return std::nullopt;
    return "snapshot " + name + ", " + explain(sector, state[sector], content);
}

std::vector<std::string> Oracle::snapshots() const
{
    std::vector<std::string> names;
    for (const auto &[name, state] : snapshots_)
        names.push_back(name);
    return names;
}

} // namespace liveblk::crash
