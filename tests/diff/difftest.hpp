// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "block_target.hpp"
#include "model.hpp"
#include "range_lock.hpp"
#include "submitter.hpp"
#include "workload.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace liveblk::test {

enum class Engine { mixed, sync, uring };

struct RunOptions {
    WorkloadOptions workload;
    std::uint64_t ops = 1000; // of all jobs together
    double seconds = 0;       // 0: no limit but ops
    unsigned jobs = 2;
    unsigned depth = 16;
    unsigned phase_ops = 100; // of each job, between changes of the way of access
    unsigned buffered_percent = 20;
    Engine engine = Engine::mixed;
    bool discard_zeros = false;
    bool strict = false;
    std::set<int> tolerated;
};

// How the operations of one phase reach the device; the same for all jobs, because direct and buffered
// access to one page at the same time is undefined.
struct Phase {
    bool direct = true;
    std::uint64_t number = 0;
    std::uint64_t ops_per_job = 0;
};

// What became of an operation; times are ticks of a counter common to all jobs.
struct Record {
    Op op;
    std::uint64_t started = 0;
    std::uint64_t ended = 0;
    int error = 0;
    bool direct = true;
};

struct Failure {
    std::string message;
    std::optional<std::uint64_t> offset;
};

// Tells a person what is wrong with what was read of a range, from offset on.
std::string mismatch_text(const std::string &where, const Model &model, const Range &range,
                          std::span<const std::byte> seen, std::uint64_t offset);

// What the jobs of a run have in common.
struct Shared {
    const RunOptions &options;
    const BlockTarget &target;
    Model &model;
    Terrain terrain;
    std::function<bool()> interrupted;
    RangeLock locks;
    std::atomic<std::uint64_t> clock = 0;
    std::atomic<bool> failed = false;
    std::mutex failure_mutex;
    std::optional<Failure> failure;

    bool stopping() const { return failed || interrupted(); }

    // Keeps the first failure.
    void fail(const std::string &message, std::optional<std::uint64_t> offset = std::nullopt);
};

// One thread's worth of operations.
class Job {
public:
    Job(Shared &shared, std::uint32_t number);

    void run(const Phase &phase);
    const std::vector<Record> &records() const { return records_; }

private:
    void begin(const Phase &phase);
    void step(Op op);
    Op for_buffered(Op op) const;
    void write_back_before_discard(const Op &op);
    void reap();
    void acquire(Request &request, const Op &op);
    std::optional<RangeLock::Held> lock_once(const Range &range, LockMode mode);
    void complete(Request &request);
    void apply(Request &request);
    void apply_discard(const Range &range);
    void apply_error(Request &request);
    void acquire_copy(Request &request, const Op &op);
    void check_copy(Request &request);
    void adopt_rest_of_copy(const Op &op, std::uint64_t copied);
    bool read_until_it_works(const Op &op, Range range, AlignedBuffer &seen);
    void check_read(Request &request);
    void adopt_failed_write(Request &request);
    void mismatch(const Op &op, std::span<const std::byte> seen, std::uint64_t offset);

    Shared &shared_;
    std::uint32_t number_;
    Workload workload_;
    Phase phase_;
    std::unique_ptr<Submitter> submitter_;
    std::vector<Request> requests_;
    std::vector<Request *> idle_;
    std::size_t in_flight_ = 0;
    std::vector<Record> records_;
};

// A whole run: phases of jobs, then a comparison of all that was touched.
class Difftest {
public:
    Difftest(const RunOptions &options, const BlockTarget &target, Model &model, std::function<bool()> interrupted);

    // Takes the present content of the device for right.
    void adopt_content();

    // False when the device is not what the model says; report() tells.
    bool run();

    std::string report() const;
    void write_trace(const std::string &path) const;

private:
    void run_phases();
    void run_phase(const Phase &phase);
    void verify();
    void verify_range(Range range, const std::vector<Range> &extents);
    std::vector<Record> history() const;
    std::string summary() const;
    std::string failure_report() const;

    Shared shared_;
    std::vector<std::unique_ptr<Job>> jobs_;
    AlignedBuffer buffer_;
};

} // namespace liveblk::test
