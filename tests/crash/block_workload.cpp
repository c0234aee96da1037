// SPDX-License-Identifier: GPL-2.0-only
#include "block_workload.hpp"

#include "device_mapper.hpp"
#include "error.hpp"
#include "pattern.hpp"
#include "process.hpp"

#include <fmt/core.h>

#include <linux/falloc.h>
#include <sys/uio.h>

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace liveblk::crash {
namespace {

using Kind = Event::Kind;
using test::Range;

std::uint64_t usable(const BlockOptions &options, std::uint64_t size)
{
    return options.span ? std::min(options.span, size) : size;
}

} // namespace

BlockWorkload::BlockWorkload(BlockOptions options)
    : options_(std::move(options)),
      target_(options_.device),
      span_(usable(options_, target_.size())),
      recorder_(options_.log_device, options_.seed, target_.size(), options_.cluster_size),
      newest_cached_(target_.size() / test::sector_size)
{
}

History BlockWorkload::run()
{
    const unsigned phases = options_.pauses + options_.snapshots + 1;
    for (unsigned phase = 0; phase < phases; phase++) {
        run_threads(options_.ops / phases, phase);
        if (!options_.only_fua)
            flush();
        if (phase < options_.pauses)
            pause();
        else if (phase + 1 < phases)
            take_snapshot(phase);
    }
    return recorder_.history();
}

void BlockWorkload::run_threads(std::size_t ops, unsigned phase)
{
    ops_left_ = static_cast<std::int64_t>(ops);
    std::exception_ptr first_error;
    std::mutex mutex;
    std::vector<std::jthread> threads;
    for (unsigned t = 0; t < options_.threads; t++)
        threads.emplace_back([this, t, phase, &first_error, &mutex] {
            try {
                worker(test::combine(test::combine(options_.seed, phase), t));
            } catch (...) {
                const std::lock_guard lock(mutex);
                failed_ = true;
                if (!first_error)
                    first_error = std::current_exception();
            }
        });
    threads.clear();
    if (first_error)
        std::rethrow_exception(first_error);
}

void BlockWorkload::worker(std::uint64_t seed)
{
    test::Random random(seed);
    test::AlignedBuffer buffer(options_.largest);
    while (!failed_ && ops_left_.fetch_sub(1) > 0)
        one_op(random, buffer);
}

// Half of all requests hit a small part of the device, so that versions pile up there.
Range BlockWorkload::pick(test::Random &random, std::uint64_t largest) const
{
    const std::uint64_t unit = random.percent(50) ? 4096 : test::sector_size;
    const std::uint64_t area = random.percent(50) ? std::max(span_ / 16, std::min(span_, 2 * largest)) : span_;
    const std::uint64_t length = random.log_uniform(unit, largest) / unit * unit;
    const std::uint64_t offset = random.below((area - length) / unit + 1) * unit;
    return {offset, length};
}

void BlockWorkload::one_op(test::Random &random, test::AlignedBuffer &buffer)
{
    unsigned dice = static_cast<unsigned>(random.below(100));
    const auto falls_in = [&dice](unsigned share) {
        const bool hit = dice < share;
        dice -= hit ? 0 : share;
        return hit;
    };
    if (falls_in(options_.only_fua ? 0 : options_.flush_percent))
        return flush();
    if (falls_in(options_.burst_percent))
        return burst(random, buffer);
    const Range range = pick(random, options_.largest);
    if (falls_in(options_.fua_percent))
        return write(Kind::fua_write, pick(random, std::min<std::uint64_t>(options_.largest, 16384)), buffer);
    if (falls_in(options_.discard_percent)) {
        const Range whole = range.narrowed(options_.cluster_size);
        return erase(Kind::discard, whole.length && random.percent(70) ? whole : range, false);
    }
    if (falls_in(options_.zero_percent))
        return erase(Kind::write_zeroes, range, random.percent(50));
    write(Kind::write, range, buffer);
}

void BlockWorkload::write(Kind kind, Range range, test::AlignedBuffer &buffer)
{
    const auto held = locks_.lock(range, test::LockMode::exclusive);
    if (kind == Kind::fua_write && !all_flushed(range))
        kind = Kind::write;
    const std::uint64_t op = recorder_.issue(kind, range.offset, range.length);
    if (kind != Kind::fua_write)
        note_cached(range, op);
    const auto data = buffer.span(0, range.length);
    test::fill_pattern(data, {options_.seed, 0, op, range.offset / test::sector_size});
    const iovec vector{data.data(), data.size()};
    const ssize_t n = ::pwritev2(target_.fd(true), &vector, 1, static_cast<off_t>(range.offset),
                                 kind == Kind::fua_write ? RWF_DSYNC : 0);
    if (n != static_cast<ssize_t>(range.length))
        test::throw_errno(fmt::format("write {} bytes at {} of {}", range.length, range.offset, options_.device),
                          n < 0 ? errno : EIO);
    recorder_.complete(op);
    if (kind == Kind::fua_write)
        recorder_.mark_op(op);
}

// Many new clusters in a row, as a guest that copies a file makes them.
void BlockWorkload::burst(test::Random &random, test::AlignedBuffer &buffer)
{
    const std::uint64_t count = random.between(4, 12);
    const std::uint64_t length = std::min(options_.largest, options_.cluster_size);
    std::uint64_t offset = random.below(span_ / length) * length;
    for (std::uint64_t i = 0; i < count && offset + length <= span_; i++, offset += length)
        write(Kind::write, {offset, length}, buffer);
}

void BlockWorkload::erase(Kind kind, Range range, bool punch)
{
    const auto held = locks_.lock(range, test::LockMode::exclusive);
    const std::uint64_t op = recorder_.issue(kind, range.offset, range.length);
    note_cached(range, op);
    int error = EOPNOTSUPP;
    if (kind == Kind::discard)
        error = target_.discard(range);
    else if (punch)
        error = target_.allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range);
    if (kind == Kind::write_zeroes && error == EOPNOTSUPP)
        error = target_.zero_out(range);
    if (error)
        test::throw_errno(fmt::format("{} {} bytes at {} of {}", kind == Kind::discard ? "discard" : "zero",
                                      range.length, range.offset, options_.device),
                          error);
    recorder_.complete(op);
}

void BlockWorkload::flush()
{
    const Recorder::Flush flush = recorder_.begin_flush();
    if (const int error = target_.flush())
        test::throw_errno("flush " + options_.device, error);
    recorder_.mark_flush(flush.number);
    const std::lock_guard lock(flushed_mutex_);
    flushed_below_ = std::max(flushed_below_, flush.first_uncovered);
}

void BlockWorkload::note_cached(Range range, std::uint64_t op)
{
    const std::lock_guard lock(flushed_mutex_);
    for (std::uint64_t s = range.offset / test::sector_size; s < range.end() / test::sector_size; s++)
        newest_cached_[s] = op;
}

// dm-log-writes logs a FUA write at once, but an earlier write to the same sectors only with the next flush, and so
// in the wrong order. Such FUA writes are not sent.
bool BlockWorkload::all_flushed(Range range)
{
    const std::lock_guard lock(flushed_mutex_);
    for (std::uint64_t s = range.offset / test::sector_size; s < range.end() / test::sector_size; s++)
        if (newest_cached_[s] >= flushed_below_ && newest_cached_[s])
            return false;
    return true;
}

void BlockWorkload::pause()
{
    suspend_device(options_.dm_name);
    recorder_.begin_foreign();
    run_or_throw({"blockdev", "--flushbufs", options_.image});
    recorder_.end_foreign();
    resume_device(options_.dm_name);
}

void BlockWorkload::take_snapshot(unsigned number)
{
    const std::string name = fmt::format("crash{}", number);
    suspend_device(options_.dm_name);
    recorder_.begin_foreign();
    run_or_throw({"blockdev", "--flushbufs", options_.image});
    run_or_throw({"qemu-img", "snapshot", "-c", name, options_.image});
    run_or_throw({"blockdev", "--flushbufs", options_.image});
    recorder_.mark_snapshot(name);
    recorder_.end_foreign();
    resume_device(options_.dm_name);
}

} // namespace liveblk::crash
