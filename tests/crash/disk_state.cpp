// SPDX-License-Identifier: GPL-2.0-only
#include "disk_state.hpp"

#include "pattern.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <stdexcept>

namespace liveblk::crash {
namespace {

constexpr std::size_t sector_size = test::sector_size;

std::vector<std::byte> read_file(const std::string &path)
{
    std::ifstream in(path, std::ios::binary | std::ios::ate);
    if (!in)
        throw std::runtime_error("open " + path);
    std::vector<std::byte> bytes(static_cast<std::size_t>(in.tellg()));
    in.seekg(0);
    in.read(reinterpret_cast<char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!in)
        throw std::runtime_error("read " + path);
    return bytes;
}

} // namespace

DiskState::DiskState(const std::string &base_file, const WriteLog &log, std::uint64_t seed)
    : log_(log), seed_(seed), bytes_(read_file(base_file))
{
}

void DiskState::put(std::uint64_t offset, std::span<const std::byte> data)
{
    if (offset > bytes_.size() || data.size() > bytes_.size() - offset)
        throw std::runtime_error(
            fmt::format("the log writes {} bytes at {}, past the device's {}", data.size(), offset, bytes_.size()));
    const auto at = bytes_.begin() + static_cast<std::ptrdiff_t>(offset);
    if (saving_)
        saved_.push_back({offset, {at, at + static_cast<std::ptrdiff_t>(data.size())}});
    std::copy(data.begin(), data.end(), at);
}

// A device may erase what is discarded or leave it: each of the two happens, and the same way in a repeated run.
bool DiskState::discard_erases(std::size_t index) const
{
    return test::combine(seed_, index) & 1;
}

std::vector<std::byte> DiskState::content(const LogEntry &entry)
{
    if (entry.is_discard())
        return std::vector<std::byte>(entry.length);
    auto data = log_.data(entry);
    if (tear_ && test::intact_stamp(std::span(data).last(sector_size))) {
        std::fill(data.end() - sector_size / 2, data.end(), std::byte{0});
        omitted_ += !saving_;
    }
    return data;
}

void DiskState::apply_sectors(std::size_t index, const std::function<bool(std::size_t)> &takes)
{
    const LogEntry &entry = log_.entries()[index];
    if (entry.is_discard() && !discard_erases(index))
        return;
    const auto data = content(entry);
    if (omit_ && !entry.is_discard() && omit_(entry, data, *this)) {
        omitted_ += !saving_;
        return;
    }
    const std::size_t sectors = data.size() / sector_size;
    for (std::size_t from = 0; from < sectors;) {
        std::size_t to = from;
        while (to < sectors && takes(to))
            to++;
        if (to > from)
            put(entry.offset + from * sector_size,
                std::span(data).subspan(from * sector_size, (to - from) * sector_size));
        from = to + 1;
    }
}

void DiskState::apply(std::size_t entry)
{
    if (!log_.entries()[entry].changes_device())
        return;
    apply_sectors(entry, [](std::size_t) { return true; });
}

void DiskState::apply_torn(std::size_t index, test::Random &random)
{
    const std::size_t sectors = log_.entries()[index].length / sector_size;
    const std::size_t cut = random.below(sectors + 1);
    switch (random.below(3)) {
    case 0:
        return apply_sectors(index, [cut](std::size_t s) { return s < cut; });
    case 1:
        return apply_sectors(index, [cut](std::size_t s) { return s >= cut; });
    default:
        return apply_sectors(index, [&random](std::size_t) { return random.percent(50); });
    }
}

void DiskState::apply_crash(const Window &window, const Point &point)
{
    test::Random random(point.seed);
    saving_ = true;
    if (point.kind == Point::Kind::torn_fua) {
        apply_torn(window.immediate.at(point.position), random);
    } else if (point.kind == Point::Kind::prefix) {
        for (std::size_t i = 0; i < point.position; i++)
            apply(window.cached.at(i));
        apply_torn(window.cached.at(point.position), random);
    } else if (point.kind == Point::Kind::subset) {
        const auto share = static_cast<unsigned>(random.between(5, 95));
        for (const std::size_t index : window.cached) {
            if (random.percent(10))
                apply_torn(index, random);
            else if (random.percent(share))
                apply(index);
        }
    }
    saving_ = false;
}

void DiskState::undo()
{
    for (auto it = saved_.rbegin(); it != saved_.rend(); ++it)
        std::copy(it->bytes.begin(), it->bytes.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(it->offset));
    saved_.clear();
}

} // namespace liveblk::crash
