// SPDX-License-Identifier: GPL-2.0-only
#include "difftest.hpp"

#include "pattern.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

namespace liveblk::test {

namespace {

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t phase_stream = 0x70686173U;
constexpr int adopt_attempts = 600;
constexpr std::chrono::milliseconds adopt_pause{100};

// So that a read which reports success and brings nothing is seen.
void poison(std::span<std::byte> data)
{
    for (std::size_t at = 0; at < data.size(); at += sector_size)
        std::memset(data.data() + at, 0xdb, sizeof(std::uint64_t));
}

bool is_optional(OpKind kind)
{
    return changes_data(kind) && kind != OpKind::write && kind != OpKind::write_fua && kind != OpKind::copy;
}

// The smallest range around both.
Range united(const Range &a, const Range &b)
{
    const std::uint64_t from = std::min(a.offset, b.offset);
    return {from, std::max(a.end(), b.end()) - from};
}

} // namespace

void Shared::fail(const std::string &message, std::optional<std::uint64_t> offset)
{
    const std::lock_guard guard(failure_mutex);
    if (!failure)
        failure = Failure{message, offset};
    failed = true;
}

Job::Job(Shared &shared, std::uint32_t number)
    : shared_(shared), number_(number), workload_(shared.options.workload, shared.terrain, number)
{
}

void Job::run(const Phase &phase)
{
    try {
        begin(phase);
        for (std::uint64_t i = 0; i < phase.ops_per_job && !shared_.stopping(); i++)
            step(workload_.next());
        while (in_flight_)
            reap();
    } catch (const std::exception &error) {
        shared_.fail(fmt::format("job {}: {}", number_, error.what()));
    }
    submitter_.reset();
}

void Job::begin(const Phase &phase)
{
    phase_ = phase;
    Random random(combine(combine(shared_.options.workload.seed, phase_stream + number_), phase.number));
    const bool uring =
        shared_.options.engine == Engine::uring || (shared_.options.engine == Engine::mixed && random.percent(60));
    const auto depth = static_cast<unsigned>(uring ? random.between(1, shared_.options.depth) : 1);
    submitter_ = uring ? make_uring_submitter(shared_.target, phase.direct, depth)
                       : make_sync_submitter(shared_.target, phase.direct);
    idle_.clear();
    requests_.resize(depth);
    for (Request &request : requests_)
        idle_.push_back(&request);
}

void Job::step(Op op)
{
    if (!phase_.direct)
        op = for_buffered(op);
    while (idle_.empty())
        reap();
    Request &request = *idle_.back();
    // Taken before acquire(), which may put others there.
    idle_.pop_back();
    acquire(request, op);
    request.prepare(op);
    write_back_before_discard(op);
    if (op.kind == OpKind::read)
        poison(request.payload());
    else if (op.kind == OpKind::write || op.kind == OpKind::write_fua)
        fill_pattern(request.payload(),
                     {shared_.options.workload.seed, number_, op.number, op.range.offset / sector_size});
    request.started = shared_.clock++;
    if (submitter_->start(request))
        complete(request);
    else
        in_flight_++;
}

Op Job::for_buffered(Op op) const
{
    // A device that does not support one of these forgets dirty pages before it says so.
    if (is_optional(op.kind) && !shared_.options.strict && shared_.target.is_device())
        op.kind = OpKind::zero_out;
    // A discard of part of a cached page changes the cache at once and the device perhaps never. The last page may be
    // no whole one.
    const std::uint64_t whole_pages = shared_.target.size() / page * page;
    if (op.kind == OpKind::discard && op.range.offset >= whole_pages)
        op.kind = OpKind::zero_out;
    else if (op.kind == OpKind::discard)
        op.range = op.range.widened(page, whole_pages);
    return op;
}

// A discard drops dirty pages, so what it leaves alone would be older than the last write.
void Job::write_back_before_discard(const Op &op)
{
    if (phase_.direct || op.kind != OpKind::discard)
        return;
    if (const int error = shared_.target.write_back(op.range))
        shared_.fail(fmt::format("{}: write back before it: {}", describe(op), std::strerror(error)), op.range.offset);
}

void Job::reap()
{
    Request &request = submitter_->wait();
    in_flight_--;
    complete(request);
}

// A read that may settle doubts changes the model and so needs its range alone.
std::optional<RangeLock::Held> Job::lock_once(const Range &range, LockMode mode)
{
    auto held = in_flight_ ? shared_.locks.try_lock(range, mode) : shared_.locks.lock(range, mode);
    if (held && mode == LockMode::shared && shared_.model.in_doubt(range))
        held.reset();
    return held;
}

// Waits for other jobs only while holding nothing; before that it finishes its own operations.
void Job::acquire(Request &request, const Op &op)
{
    request.lock.reset();
    if (op.kind == OpKind::flush)
        return;
    if (op.kind == OpKind::copy) {
        acquire_copy(request, op);
        return;
    }
    const Range range = phase_.direct ? op.range : op.range.widened(page, shared_.target.size());
    while (true) {
        if (op.kind == OpKind::read)
            request.lock = lock_once(range, LockMode::shared);
        if (!request.lock && (op.kind != OpKind::read || shared_.model.in_doubt(range)))
            request.lock = lock_once(range, LockMode::exclusive);
        if (request.lock)
            return;
        if (in_flight_)
            reap();
    }
}

// Both ranges or none, so that no two jobs wait for each other.
void Job::acquire_copy(Request &request, const Op &op)
{
    const std::uint64_t unit = phase_.direct ? sector_size : page;
    const Range to = op.range.widened(unit, shared_.target.size());
    const Range from = op.source.widened(unit, shared_.target.size());
    const bool one = to.overlaps(from);
    const Range first = one ? united(to, from) : to;
    while (true) {
        request.lock = in_flight_ ? shared_.locks.try_lock(first, LockMode::exclusive)
                                  : shared_.locks.lock(first, LockMode::exclusive);
        if (request.lock && one)
            return;
        if (request.lock) {
            request.source_lock = shared_.locks.try_lock(from, LockMode::shared);
            // What is in doubt goes to the destination as it is, so nobody may settle it meanwhile.
            if (request.source_lock && shared_.model.in_doubt(op.source)) {
                request.source_lock.reset();
                request.source_lock = shared_.locks.try_lock(from, LockMode::exclusive);
            }
            if (request.source_lock)
                return;
            request.lock.reset();
        }
        if (in_flight_)
            reap();
        else
            std::this_thread::yield();
    }
}

void Job::complete(Request &request)
{
    records_.push_back({request.op, request.started, shared_.clock++, request.error, phase_.direct});
    if (!shared_.failed) {
        if (request.op.kind == OpKind::copy)
            check_copy(request);
        else if (request.error)
            apply_error(request);
        else
            apply(request);
    }
    request.lock.reset();
    request.source_lock.reset();
    idle_.push_back(&request);
}

void Job::apply(Request &request)
{
    const Range &range = request.op.range;
    switch (request.op.kind) {
    case OpKind::read:
        check_read(request);
        break;
    case OpKind::write:
    case OpKind::write_fua:
        shared_.model.write(range, request.payload());
        break;
    case OpKind::discard:
        apply_discard(range);
        break;
    case OpKind::zero_out:
    case OpKind::punch_hole:
    case OpKind::zero_range:
        shared_.model.zero(range);
        break;
    case OpKind::flush:
    case OpKind::copy:
        break;
    }
}

// The count of a copy is right whether it failed or not, and nothing else has changed.
void Job::check_copy(Request &request)
{
    const Op &op = request.op;
    const std::uint64_t copied = request.copied;
    if (op.source.overlaps(op.range)) {
        if (request.error != EINVAL || copied)
            shared_.fail(fmt::format("{}: overlaps, and was not refused (error {}, {} bytes)", describe(op),
                                     request.error, copied),
                         op.range.offset);
        return;
    }
    if (copied > op.range.length || copied % sector_size || (!request.error && copied != op.range.length)) {
        shared_.fail(fmt::format("{}: error {} and {} bytes", describe(op), request.error, copied), op.range.offset);
        return;
    }
    if (request.error && !shared_.options.tolerated.contains(request.error)) {
        shared_.fail(fmt::format("{}: {}", describe(op), std::strerror(request.error)), op.range.offset);
        return;
    }
    if (copied)
        shared_.model.copy({op.source.offset, copied}, op.range.offset);
    if (request.error)
        adopt_rest_of_copy(op, copied);
}

// Each sector that does not count as copied is what it was, or what the copy would have put there.
void Job::adopt_rest_of_copy(const Op &op, std::uint64_t copied)
{
    const Range rest{op.range.offset + copied, op.range.length - copied};
    const Range source{op.source.offset + copied, rest.length};
    AlignedBuffer seen(rest.length);
    if (!read_until_it_works(op, source, seen))
        return;
    // Settles what was in doubt of the source.
    if (const auto bad = shared_.model.check(source, seen.span(0, rest.length))) {
        mismatch(op, seen.span(0, rest.length), *bad - source.offset + rest.offset);
        return;
    }
    if (!read_until_it_works(op, rest, seen))
        return;
    const auto content = seen.span(0, rest.length);
    if (const auto bad = shared_.model.adopt(rest, content, shared_.model.data(source)))
        mismatch(op, content, *bad);
}

// What is below may take a while to recover.
bool Job::read_until_it_works(const Op &op, Range range, AlignedBuffer &seen)
{
    for (int attempt = 0; attempt < adopt_attempts; attempt++) {
        const ssize_t got =
            ::pread(shared_.target.fd(phase_.direct), seen.data(), range.length, static_cast<off_t>(range.offset));
        if (got == static_cast<ssize_t>(range.length))
            return true;
        std::this_thread::sleep_for(adopt_pause);
    }
    shared_.fail(describe(op) + ": failed, and its range stays unreadable", range.offset);
    return false;
}

void Job::apply_discard(const Range &range)
{
    const Range whole = range.narrowed(shared_.options.workload.cluster_size);
    shared_.model.doubt(range);
    if (shared_.options.discard_zeros && whole.length)
        shared_.model.zero(whole);
}

void Job::apply_error(Request &request)
{
    const Op &op = request.op;
    if (request.error == EOPNOTSUPP && is_optional(op.kind) && !shared_.options.strict)
        return;
    if (!shared_.options.tolerated.contains(request.error)) {
        shared_.fail(fmt::format("{}: {}", describe(op), std::strerror(request.error)), op.range.offset);
        return;
    }
    if (op.kind == OpKind::write || op.kind == OpKind::write_fua)
        adopt_failed_write(request);
    else if (changes_data(op.kind))
        shared_.model.doubt(op.range);
}

// The read after a failed write may fail as well until what is below has recovered.
void Job::adopt_failed_write(Request &request)
{
    const Op op = request.op;
    AlignedBuffer seen(op.range.length);
    if (!read_until_it_works(op, op.range, seen))
        return;
    const auto content = seen.span(0, op.range.length);
    if (const auto bad = shared_.model.adopt(op.range, content, request.payload()))
        mismatch(op, content, *bad);
}

void Job::check_read(Request &request)
{
    const Op &op = request.op;
    if (const auto bad = shared_.model.check(op.range, request.payload()))
        mismatch(op, request.payload(), *bad);
}

void Job::mismatch(const Op &op, std::span<const std::byte> seen, std::uint64_t offset)
{
    const std::string where = describe(op) + (phase_.direct ? ", direct" : ", buffered");
    shared_.fail(mismatch_text(where, shared_.model, op.range, seen, offset), offset);
}

} // namespace liveblk::test
