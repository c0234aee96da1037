// SPDX-License-Identifier: GPL-2.0-only
#include "support.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace hostile {

namespace {

constexpr std::uint64_t golden = 0x9e3779b97f4a7c15ULL;
constexpr std::size_t hole_size = 4096;

std::uint64_t mix(std::uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

} // namespace

Fd::~Fd()
{
    if (fd_ >= 0)
        close(fd_);
}

void throw_errno(const std::string &attempt, const std::string &object)
{
    throw std::system_error(errno, std::generic_category(), attempt + " " + object);
}

Fd open_or_throw(const std::string &path, int flags, unsigned mode)
{
    int fd = open(path.c_str(), flags | O_CLOEXEC, mode);
    if (fd < 0)
        throw_errno("open", path);
    return Fd(fd);
}

Bytes read_whole(const std::string &path, std::uint64_t length)
{
    Fd fd = open_or_throw(path, O_RDONLY);
    Bytes bytes(length);
    std::size_t done = 0;
    while (done < length) {
        ssize_t n = pread(fd.get(), bytes.data() + done, length - done, static_cast<off_t>(done));
        if (n < 0)
            throw_errno("read", path);
        if (n == 0)
            break;
        done += static_cast<std::size_t>(n);
    }
    bytes.resize(done);
    return bytes;
}

void write_sparse(const std::string &path, const Bytes &bytes)
{
    Fd fd = open_or_throw(path, O_WRONLY | O_CREAT | O_TRUNC);
    for (std::size_t at = 0; at < bytes.size(); at += hole_size) {
        std::size_t len = std::min(hole_size, bytes.size() - at);
        if (all_zero({bytes.data() + at, len}))
            continue;
        if (pwrite(fd.get(), bytes.data() + at, len, static_cast<off_t>(at)) != static_cast<ssize_t>(len))
            throw_errno("write", path);
    }
    if (ftruncate(fd.get(), static_cast<off_t>(bytes.size())))
        throw_errno("set the size of", path);
}

std::uint64_t Random::next()
{
    state_ += golden;
    return mix(state_);
}

void fill_pattern(std::span<std::uint8_t> out, std::uint64_t tag)
{
    for (std::size_t at = 0; at < out.size(); at += sizeof(std::uint64_t)) {
        std::uint64_t word = mix(tag * golden + at);
        std::memcpy(out.data() + at, &word, std::min(sizeof(word), out.size() - at));
    }
}

bool all_zero(std::span<const std::uint8_t> bytes)
{
    return std::all_of(bytes.begin(), bytes.end(), [](std::uint8_t b) { return b == 0; });
}

} // namespace hostile
