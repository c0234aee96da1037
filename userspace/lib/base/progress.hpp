// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

namespace liveblk {

// How far long work has come, counted in the bytes that it reads or copies: a bar with rate and estimate on a terminal,
// nothing elsewhere.
class Progress {
public:
    Progress(); // shown if standard error is a terminal
    // Shows nothing and calls this at each step, which may throw to end the work.
    explicit Progress(std::function<void()> each_step) : shown_(false), each_step_(std::move(each_step)) {}
    Progress(const Progress &) = delete;
    Progress &operator=(const Progress &) = delete;
    ~Progress() { end(); }

    void begin(std::string what, std::uint64_t total_bytes);
    void advance(std::uint64_t bytes)
    {
        done_ += bytes;
        if (each_step_)
            each_step_();
        if (shown_ && done_ >= next_)
            draw();
    }
    void end();

private:
    using Clock = std::chrono::steady_clock;
    void draw();

    bool shown_;
    std::function<void()> each_step_;
    bool drawn_ = false;
    std::string what_;
    std::uint64_t total_ = 0;
    std::uint64_t done_ = 0;
    std::uint64_t next_ = 0;
    Clock::time_point start_;
    Clock::time_point last_;
};

} // namespace liveblk
