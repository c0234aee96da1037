// SPDX-License-Identifier: GPL-2.0-only
#include "base/progress.hpp"

#include "base/byte_size.hpp"

#include <fmt/core.h>

#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace liveblk {
namespace {

constexpr auto first_after = std::chrono::milliseconds(300);
constexpr auto interval = std::chrono::milliseconds(100);
constexpr std::uint64_t bar_width = 30;
constexpr std::uint64_t looks_at_clock = 1000; // times in all

// Without the product, which may be larger than 64 bits.
std::uint64_t percent_of(std::uint64_t done, std::uint64_t total)
{
    return static_cast<std::uint64_t>(100.0 * static_cast<double>(done) / static_cast<double>(total));
}

} // namespace

Progress::Progress() : shown_(::isatty(STDERR_FILENO) == 1) {}

void Progress::begin(std::string what, std::uint64_t total_bytes)
{
    end();
    what_ = std::move(what);
    total_ = total_bytes;
    done_ = next_ = 0;
    start_ = Clock::now();
    last_ = start_ + first_after - interval;
}

void Progress::end()
{
    if (drawn_)
        fmt::print(stderr, "\r\033[K");
    drawn_ = false;
    total_ = 0;
}

void Progress::draw()
{
    next_ = done_ + total_ / looks_at_clock;
    const auto now = Clock::now();
    if (now < last_ + interval || !total_ || !done_)
        return;
    last_ = now;
    drawn_ = true;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const double rate = static_cast<double>(done_) / seconds;
    const std::uint64_t done = std::min(done_, total_);
    const std::uint64_t filled = percent_of(done, total_) * bar_width / 100;
    fmt::print(stderr, "\r{} [{:<{}}] {:3}% {}/s, {:.0f} s left\033[K", what_, std::string(filled, '#'), bar_width,
               percent_of(done, total_), human_size(static_cast<std::uint64_t>(rate)),
               static_cast<double>(total_ - done) / rate);
    std::fflush(stderr);
}

} // namespace liveblk
