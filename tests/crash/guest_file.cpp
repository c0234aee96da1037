// SPDX-License-Identifier: GPL-2.0-only
#include "guest_file.hpp"

#include "pattern.hpp"

#include <fmt/core.h>

namespace liveblk::crash {
namespace {

constexpr std::uint32_t file_job = 1;

} // namespace

std::vector<std::byte> guest_file_content(std::uint64_t seed, std::uint64_t number, std::uint64_t size)
{
    const std::uint64_t rounded = (size + test::sector_size - 1) / test::sector_size * test::sector_size;
    std::vector<std::byte> content(rounded);
    test::fill_pattern(content, {seed, file_job, number, 0});
    content.resize(size);
    return content;
}

std::string guest_file_name(std::uint64_t number)
{
    return fmt::format("file-{}", number);
}

} // namespace liveblk::crash
