// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <bit>
#include <cstdint>

namespace liveblk::test {

// A bijective scrambler: close inputs give unrelated outputs.
constexpr std::uint64_t scramble(std::uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93U;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93U;
    x ^= x >> 32;
    return x;
}

constexpr std::uint64_t combine(std::uint64_t a, std::uint64_t b)
{
    return scramble(scramble(a) + b + 1);
}

// A counter through a scrambler: the same on every machine and library, so that a seed repeats a run.
class Random {
public:
    explicit Random(std::uint64_t seed) : state_(scramble(seed)) {}

    std::uint64_t next() { return scramble(state_ += 0x9e3779b97f4a7c15U); }

    // Uniform in [0, bound); bound 0 gives 0. The bias of the modulus is of no weight in tests.
    std::uint64_t below(std::uint64_t bound) { return bound ? next() % bound : 0; }

    // Uniform in [low, high].
    std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + below(high - low + 1); }

    bool percent(unsigned share) { return below(100) < share; }

    // Each power of two between low and high is as likely as any other.
    std::uint64_t log_uniform(std::uint64_t low, std::uint64_t high)
    {
        const auto first = static_cast<unsigned>(std::bit_width(low) - 1);
        const auto last = static_cast<unsigned>(std::bit_width(high) - 1);
        const std::uint64_t base = std::uint64_t{1} << between(first, last);
        const std::uint64_t value = base + below(base);
        return value < low ? low : value > high ? high : value;
    }

private:
    std::uint64_t state_;
};

} // namespace liveblk::test
