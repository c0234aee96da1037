// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace liveblk::test {

inline constexpr std::size_t sector_size = 512;

// Who wrote a sector; stored at the start of each sector written, so that a mismatch names its writer.
struct Stamp {
    std::uint64_t seed;
    std::uint32_t job;
    std::uint64_t op;
    std::uint64_t sector;

    bool operator==(const Stamp &) const = default;
};

// Fills whole sectors; stamp.sector is that of the first one.
void fill_pattern(std::span<std::byte> data, Stamp stamp);

// The stamp of a sector whose every byte is what fill_pattern made; nothing otherwise.
std::optional<Stamp> intact_stamp(std::span<const std::byte> sector);

bool is_zero(std::span<const std::byte> data);

// One phrase for a person: zeros, which op wrote it, or the first bytes.
std::string describe_sector(std::span<const std::byte> sector);

} // namespace liveblk::test
