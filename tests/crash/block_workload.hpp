// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "aligned_buffer.hpp"
#include "block_target.hpp"
#include "random.hpp"
#include "range_lock.hpp"
#include "recorder.hpp"

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace liveblk::crash {

struct BlockOptions {
    std::string device;
    std::string log_device;
    std::uint64_t seed = 1;
    std::size_t ops = 300;
    unsigned threads = 4;
    std::uint64_t cluster_size = 65536;
    std::uint64_t span = 0; // bytes of the device to use; 0: all
    std::uint64_t largest = 131072;
    unsigned flush_percent = 6;
    unsigned fua_percent = 8;
    unsigned discard_percent = 8;
    unsigned zero_percent = 8;
    unsigned burst_percent = 4;
    // Flushes do not get to the device: none are sent, and nothing is promised but by FUA.
    bool only_fua = false;
    // Internal snapshots, taken by qemu-img while the device is suspended.
    unsigned snapshots = 0;
    // Before those, so often the device is suspended and resumed, with nothing changed: what it had is still its own.
    unsigned pauses = 0;
    std::string dm_name;
    std::string image;
};

// Random writes of every kind to a block device, from several threads that never touch one sector at once.
class BlockWorkload {
public:
    explicit BlockWorkload(BlockOptions options);

    // The device must then hold the newest version of everything, durably.
    History run();

private:
    void run_threads(std::size_t ops, unsigned phase);
    void worker(std::uint64_t seed);
    void one_op(test::Random &random, test::AlignedBuffer &buffer);
    void flush();
    void write(Event::Kind kind, test::Range range, test::AlignedBuffer &buffer);
    void burst(test::Random &random, test::AlignedBuffer &buffer);
    void erase(Event::Kind kind, test::Range range, bool punch);
    void note_cached(test::Range range, std::uint64_t op);
    bool all_flushed(test::Range range);
    test::Range pick(test::Random &random, std::uint64_t largest) const;
    void pause();
    void take_snapshot(unsigned number);

    BlockOptions options_;
    test::BlockTarget target_;
    std::uint64_t span_;
    Recorder recorder_;
    test::RangeLock locks_;
    std::mutex flushed_mutex_;
    std::vector<std::uint64_t> newest_cached_; // by sector: the newest op without FUA
    std::uint64_t flushed_below_ = 0;          // all older ops are flushed
    std::atomic<std::int64_t> ops_left_{0};
    std::atomic<bool> failed_{false};
};

} // namespace liveblk::crash
