// SPDX-License-Identifier: GPL-2.0-only
#include "pattern.hpp"

#include "random.hpp"

#include <fmt/core.h>

#include <array>
#include <cstring>

namespace liveblk::test {

namespace {

constexpr std::uint64_t magic = 0x6c697665626c6b21U;
constexpr std::size_t words = sector_size / sizeof(std::uint64_t);
constexpr std::size_t header_words = 5;
constexpr std::size_t shown_bytes = 32;

using Sector = std::array<std::uint64_t, words>;

Sector make_sector(const Stamp &stamp)
{
    Sector sector{magic, stamp.seed, stamp.job, stamp.op, stamp.sector};
    std::uint64_t x = combine(combine(combine(stamp.seed, stamp.job), stamp.op), stamp.sector);
    for (std::size_t i = header_words; i < words; i++) {
        x += 0x9e3779b97f4a7c15U;
        sector[i] = x ^ (x >> 29);
    }
    return sector;
}

std::optional<Stamp> header(std::span<const std::byte> sector)
{
    std::array<std::uint64_t, header_words> head{};
    std::memcpy(head.data(), sector.data(), sizeof(head));
    if (head[0] != magic)
        return std::nullopt;
    return Stamp{head[1], static_cast<std::uint32_t>(head[2]), head[3], head[4]};
}

std::string name(const Stamp &stamp)
{
    return fmt::format("seed {} job {} op {}, for sector {}", stamp.seed, stamp.job, stamp.op, stamp.sector);
}

} // namespace

void fill_pattern(std::span<std::byte> data, Stamp stamp)
{
    for (std::size_t at = 0; at < data.size(); at += sector_size, stamp.sector++) {
        const Sector sector = make_sector(stamp);
        std::memcpy(data.data() + at, sector.data(), sector_size);
    }
}

std::optional<Stamp> intact_stamp(std::span<const std::byte> sector)
{
    const auto stamp = header(sector);
    if (!stamp)
        return std::nullopt;
    const Sector expected = make_sector(*stamp);
    if (std::memcmp(sector.data(), expected.data(), sector_size) != 0)
        return std::nullopt;
    return stamp;
}

bool is_zero(std::span<const std::byte> data)
{
    if (data.empty())
        return true;
    return data[0] == std::byte{0} && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0;
}

std::string describe_sector(std::span<const std::byte> sector)
{
    if (is_zero(sector))
        return "zeros";
    if (const auto stamp = intact_stamp(sector))
        return "written by " + name(*stamp);
    std::string text = "bytes";
    for (const std::byte b : sector.first(shown_bytes))
        text += fmt::format(" {:02x}", std::to_integer<unsigned>(b));
    if (const auto stamp = header(sector))
        text += " (a damaged sector of " + name(*stamp) + ")";
    return text;
}

} // namespace liveblk::test
