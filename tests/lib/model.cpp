// SPDX-License-Identifier: GPL-2.0-only
#include "model.hpp"

#include "error.hpp"
#include "pattern.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace liveblk::test {

namespace {

constexpr std::uint64_t bits_per_word = 64;

std::size_t doubt_bytes(std::uint64_t size)
{
    const std::uint64_t sectors = size / sector_size;
    return (sectors / bits_per_word + 1) * sizeof(std::uint64_t);
}

std::atomic_ref<std::uint64_t> word_of(const Mapping &map, std::uint64_t sector)
{
    return std::atomic_ref(reinterpret_cast<std::uint64_t *>(map.data())[sector / bits_per_word]);
}

constexpr std::uint64_t bit_of(std::uint64_t sector)
{
    return std::uint64_t{1} << sector % bits_per_word;
}

} // namespace

Mapping::Mapping(int fd, std::size_t size) : size_(size)
{
    const int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    void *at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd, 0);
    if (at == MAP_FAILED)
        throw_errno("map " + std::to_string(size) + " bytes");
    data_ = static_cast<std::byte *>(at);
}

Mapping::Mapping(Mapping &&other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0))
{
}

Mapping &Mapping::operator=(Mapping &&other) noexcept
{
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

Mapping::~Mapping()
{
    if (data_)
        ::munmap(data_, size_);
}

Model::Model(const std::string &path, std::uint64_t size) : path_(path), size_(size)
{
    fd_ = UniqueFd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (!fd_)
        throw_errno("open the model " + path);
    struct stat st {};
    if (::fstat(fd_.get(), &st))
        throw_errno("stat the model " + path);
    created_ = st.st_size == 0;
    if (!created_ && static_cast<std::uint64_t>(st.st_size) != size)
        throw std::runtime_error("the model " + path + " has " + std::to_string(st.st_size) + " bytes, the device " +
                                 std::to_string(size));
    if (::ftruncate(fd_.get(), static_cast<off_t>(size)))
        throw_errno("give the model " + path + " its size");
    content_ = Mapping(fd_.get(), size);
    doubts_ = Mapping(-1, doubt_bytes(size));
}

std::span<const std::byte> Model::data(Range range) const
{
    return {content_.data() + range.offset, range.length};
}

void Model::write(Range range, std::span<const std::byte> data)
{
    std::memcpy(content_.data() + range.offset, data.data(), range.length);
    settle(range);
}

void Model::zero(Range range)
{
    std::memset(content_.data() + range.offset, 0, range.length);
    settle(range);
}

void Model::copy(Range source, std::uint64_t destination)
{
    std::memcpy(content_.data() + destination, content_.data() + source.offset, source.length);
    settle({destination, source.length});
    for (std::uint64_t at = 0; at < source.length; at += sector_size)
        if (doubtful((source.offset + at) / sector_size))
            doubt({destination + at, sector_size});
}

void Model::doubt(Range range)
{
    for (std::uint64_t s = range.offset / sector_size; s < range.end() / sector_size; s++)
        word_of(doubts_, s).fetch_or(bit_of(s));
}

void Model::settle(Range range)
{
    for (std::uint64_t s = range.offset / sector_size; s < range.end() / sector_size; s++)
        if (doubtful(s))
            word_of(doubts_, s).fetch_and(~bit_of(s));
}

bool Model::doubtful(std::uint64_t sector) const
{
    return word_of(doubts_, sector).load() & bit_of(sector);
}

bool Model::in_doubt(Range range) const
{
    for (std::uint64_t s = range.offset / sector_size; s < range.end() / sector_size; s++)
        if (doubtful(s))
            return true;
    return false;
}

std::optional<std::uint64_t> Model::check(Range range, std::span<const std::byte> seen)
{
    const bool equal = std::memcmp(content_.data() + range.offset, seen.data(), range.length) == 0;
    if (!equal)
        return check_sectors(range, seen);
    if (in_doubt(range))
        settle(range);
    return std::nullopt;
}

std::optional<std::uint64_t> Model::check_sectors(Range range, std::span<const std::byte> seen)
{
    for (std::uint64_t at = 0; at < range.length; at += sector_size) {
        const Range one{range.offset + at, sector_size};
        const auto sector = seen.subspan(at, sector_size);
        if (doubtful(one.offset / sector_size) && is_zero(sector))
            zero(one);
        else if (std::memcmp(content_.data() + one.offset, sector.data(), sector_size) != 0)
            return one.offset;
        else
            settle(one);
    }
    return std::nullopt;
}

std::string Model::differences(Range range, std::span<const std::byte> seen) const
{
    constexpr unsigned shown_runs = 8;
    const auto wrong = [&](std::uint64_t at) {
        return at < range.length &&
               std::memcmp(content_.data() + range.offset + at, seen.data() + at, sector_size) != 0;
    };
    std::string text;
    unsigned runs = 0;
    for (std::uint64_t at = 0; at < range.length; at += sector_size) {
        if (!wrong(at))
            continue;
        const std::uint64_t from = at;
        while (wrong(at))
            at += sector_size;
        if (runs++ == shown_runs)
            return text + " and more";
        text += (text.empty() ? "" : ", ") + std::to_string((range.offset + from) / sector_size) + ".." +
                std::to_string((range.offset + at) / sector_size);
    }
    return text;
}

std::optional<std::uint64_t> Model::adopt(Range range, std::span<const std::byte> seen, std::span<const std::byte> what)
{
    for (std::uint64_t at = 0; at < range.length; at += sector_size) {
        const Range one{range.offset + at, sector_size};
        const auto sector = seen.subspan(at, sector_size);
        if (std::memcmp(what.data() + at, sector.data(), sector_size) == 0)
            write(one, sector);
        else if (check_sectors(one, sector))
            return one.offset;
    }
    return std::nullopt;
}

std::vector<Range> Model::extents() const
{
    std::vector<Range> found;
    off_t at = 0;
    while (true) {
        const off_t from = ::lseek(fd_.get(), at, SEEK_DATA);
        if (from < 0 && errno == ENXIO)
            return found;
        if (from < 0)
            throw_errno("look for data in the model " + path_);
        at = ::lseek(fd_.get(), from, SEEK_HOLE);
        if (at < 0)
            throw_errno("look for holes in the model " + path_);
        found.push_back({static_cast<std::uint64_t>(from), static_cast<std::uint64_t>(at - from)});
    }
}

} // namespace liveblk::test
