// SPDX-License-Identifier: GPL-2.0-only
// Small things that every part of qcow2-hostile needs: descriptors, errors, random numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace hostile {

using Bytes = std::vector<std::uint8_t>;

constexpr std::uint64_t sector_size = 512;

// An open descriptor that closes itself.
class Fd {
public:
    Fd() = default;
    explicit Fd(int fd) : fd_(fd) {}
    Fd(Fd &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd &operator=(Fd &&other) noexcept
    {
        Fd old(std::exchange(fd_, std::exchange(other.fd_, -1)));
        return *this;
    }
    Fd(const Fd &) = delete;
    Fd &operator=(const Fd &) = delete;
    ~Fd();

    int get() const { return fd_; }

private:
    int fd_ = -1;
};

// Something that the tool itself could not do; a wrong answer of the module is not an error.
[[noreturn]] void throw_errno(const std::string &attempt, const std::string &object);

Fd open_or_throw(const std::string &path, int flags, unsigned mode = 0600);

// The first `length` bytes of a file or block device, or what there is of them.
Bytes read_whole(const std::string &path, std::uint64_t length);

// Writes the bytes with holes where they are zero; an existing file is replaced.
void write_sparse(const std::string &path, const Bytes &bytes);

// splitmix64: the same numbers on every machine, for patterns and for mutations.
class Random {
public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    std::uint64_t next();
    std::uint64_t below(std::uint64_t bound) { return bound ? next() % bound : 0; }
    bool chance(unsigned percent) { return below(100) < percent; }

private:
    std::uint64_t state_;
};

// Fills a range with words that depend on the tag and the place, so that a misplaced sector shows.
void fill_pattern(std::span<std::uint8_t> out, std::uint64_t tag);

bool all_zero(std::span<const std::uint8_t> bytes);

} // namespace hostile
