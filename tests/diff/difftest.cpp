// SPDX-License-Identifier: GPL-2.0-only
#include "difftest.hpp"

#include "error.hpp"
#include "pattern.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <stdexcept>
#include <thread>

namespace liveblk::test {

namespace {

constexpr std::uint64_t verify_step = std::uint64_t{1} << 20;
constexpr std::uint64_t sample_size = 65536;
constexpr unsigned samples = 64;
constexpr std::uint64_t phases_stream = 0x61636365U;
constexpr std::uint64_t sample_stream = 0x73616dU;
constexpr std::size_t shown_history = 12;

void read_exactly(const BlockTarget &target, Range range, std::byte *into)
{
    const ssize_t got = ::pread(target.fd(target.has_direct()), into, range.length, static_cast<off_t>(range.offset));
    const std::string what = fmt::format("read {}+{} of {}", range.offset, range.length, target.path());
    if (got < 0)
        throw_errno(what);
    if (static_cast<std::uint64_t>(got) != range.length)
        throw std::runtime_error(what + ": only " + std::to_string(got) + " bytes");
}

} // namespace

std::string mismatch_text(const std::string &where, const Model &model, const Range &range,
                          std::span<const std::byte> seen, std::uint64_t offset)
{
    return fmt::format("{}: at offset {} (sector {})\n  seen:     {}\n  expected: {}\n  wrong sectors of {}..{}: {}",
                       where, offset, offset / sector_size,
                       describe_sector(seen.subspan(offset - range.offset, sector_size)),
                       describe_sector(model.data({offset, sector_size})), range.offset / sector_size,
                       range.end() / sector_size, model.differences(range, seen));
}

namespace {

std::string to_line(const Record &r)
{
    return fmt::format("{:>7}..{:<7} {:8} {}{}", r.started, r.ended, r.direct ? "direct" : "buffered", describe(r.op),
                       r.error ? fmt::format(": error {}", r.error) : "");
}

} // namespace

Difftest::Difftest(const RunOptions &options, const BlockTarget &target, Model &model,
                   std::function<bool()> interrupted)
    : shared_{.options = options,
              .target = target,
              .model = model,
              .terrain = Terrain(options.workload),
              .interrupted = std::move(interrupted),
              .locks = {},
              .failure_mutex = {},
              .failure = {}},
      buffer_(verify_step)
{
    for (std::uint32_t i = 0; i < options.jobs; i++)
        jobs_.push_back(std::make_unique<Job>(shared_, i));
}

void Difftest::adopt_content()
{
    for (std::uint64_t at = 0; at < shared_.target.size(); at += verify_step) {
        const Range range{at, std::min(verify_step, shared_.target.size() - at)};
        read_exactly(shared_.target, range, buffer_.data());
        if (!is_zero(buffer_.span(0, range.length)))
            shared_.model.write(range, buffer_.span(0, range.length));
    }
}

bool Difftest::run()
{
    try {
        run_phases();
        if (!shared_.failed)
            verify();
    } catch (const std::exception &error) {
        shared_.fail(error.what());
    }
    return !shared_.failed;
}

void Difftest::run_phases()
{
    const RunOptions &o = shared_.options;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(o.seconds);
    std::uint64_t left = o.ops / o.jobs;
    Random random(combine(o.workload.seed, phases_stream));
    for (std::uint64_t number = 0; left && !shared_.stopping(); number++) {
        if (o.seconds > 0 && std::chrono::steady_clock::now() >= deadline)
            return;
        // The page cache hides from the writer which write has failed.
        const bool buffered = random.percent(o.buffered_percent) && o.tolerated.empty();
        const std::uint64_t ops = std::min<std::uint64_t>(left, o.phase_ops);
        run_phase({.direct = shared_.target.has_direct() && !buffered, .number = number, .ops_per_job = ops});
        left -= ops;
    }
}

void Difftest::run_phase(const Phase &phase)
{
    {
        std::vector<std::jthread> threads;
        for (const auto &job : jobs_)
            threads.emplace_back([&job, &phase] { job->run(phase); });
    }
    if (!phase.direct && !shared_.failed)
        shared_.target.drop_cache();
}

void Difftest::verify()
{
    if (shared_.options.tolerated.empty())
        shared_.target.drop_cache();
    const std::vector<Range> extents = shared_.model.extents();
    for (const Range &window : shared_.terrain.windows)
        verify_range(window, extents);
    // What an earlier run with other windows wrote.
    if (shared_.options.workload.area.length != shared_.target.size())
        return;
    for (const Range &extent : extents)
        verify_range(extent, extents);
    Random random(combine(shared_.options.workload.seed, sample_stream));
    const std::uint64_t block = shared_.options.workload.block_size;
    for (unsigned i = 0; i < samples && shared_.target.size() > sample_size; i++)
        verify_range({random.below(shared_.target.size() - sample_size) / block * block, sample_size}, extents);
}

void Difftest::verify_range(Range range, const std::vector<Range> &extents)
{
    for (std::uint64_t at = range.offset; at < range.end() && !shared_.failed; at += verify_step) {
        const Range part{at, std::min(verify_step, range.end() - at)};
        read_exactly(shared_.target, part, buffer_.data());
        const auto seen = buffer_.span(0, part.length);
        const bool hole =
            std::none_of(extents.begin(), extents.end(), [&](const Range &e) { return e.overlaps(part); });
        // Reading a hole of the model through its mapping would fill it.
        if (hole && is_zero(seen))
            continue;
        const auto bad = shared_.model.check(part, seen);
        if (!bad)
            continue;
        shared_.fail(mismatch_text("final comparison", shared_.model, part, seen, *bad), bad);
    }
}

std::vector<Record> Difftest::history() const
{
    std::vector<Record> all;
    for (const auto &job : jobs_)
        all.insert(all.end(), job->records().begin(), job->records().end());
    std::sort(all.begin(), all.end(), [](const Record &a, const Record &b) { return a.started < b.started; });
    return all;
}

void Difftest::write_trace(const std::string &path) const
{
    std::ofstream out(path);
    for (const Record &record : history())
        out << to_line(record) << '\n';
    if (!out.flush())
        throw std::runtime_error("write the trace " + path + ": failed");
}

std::string Difftest::report() const
{
    return shared_.failure ? failure_report() : summary();
}

std::string Difftest::summary() const
{
    std::array<std::uint64_t, op_kinds> count{};
    std::uint64_t read = 0;
    std::uint64_t written = 0;
    std::uint64_t unsupported = 0;
    std::uint64_t failed = 0;
    for (const Record &r : history()) {
        count[static_cast<std::size_t>(r.op.kind)]++;
        unsupported += r.error == EOPNOTSUPP;
        failed += r.error && r.error != EOPNOTSUPP;
        (r.op.kind == OpKind::read ? read : written) +=
            r.error || r.op.kind > OpKind::write_fua ? 0 : r.op.range.length;
    }
    std::string text = fmt::format("ok: seed {}", shared_.options.workload.seed);
    for (std::size_t i = 0; i < op_kinds; i++)
        text += fmt::format(", {} {}", count[i], to_string(static_cast<OpKind>(i)));
    text += fmt::format(", {} MiB read, {} MiB written", read >> 20, written >> 20);
    if (unsupported)
        text += fmt::format(", {} not supported", unsupported);
    if (!shared_.options.tolerated.empty())
        text += fmt::format(", {} failed as tolerated", failed);
    return text;
}

std::string Difftest::failure_report() const
{
    std::string text = fmt::format("FAILED: seed {}: {}", shared_.options.workload.seed, shared_.failure->message);
    if (!shared_.failure->offset)
        return text;
    const Range sector{*shared_.failure->offset, sector_size};
    std::vector<Record> touching;
    for (const Record &record : history())
        if (record.op.range.overlaps(sector))
            touching.push_back(record);
    text += fmt::format("\n  operations on this sector ({} in this run, the last ones):", touching.size());
    for (std::size_t i = touching.size() > shown_history ? touching.size() - shown_history : 0; i < touching.size();
         i++)
        text += "\n    " + to_line(touching[i]);
    return text;
}

} // namespace liveblk::test
