// SPDX-License-Identifier: GPL-2.0-only
#include "text.hpp"

#include <fmt/core.h>

#include <array>
#include <ctime>

namespace liveblk::maint {

std::string human_date(std::uint32_t seconds)
{
    const std::time_t time = seconds;
    std::tm local = {};
    ::localtime_r(&time, &local);
    std::array<char, 64> text = {};
    return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &local)};
}

std::string percentage(std::uint64_t part, std::uint64_t whole)
{
    return fmt::format("{:.1f}%", whole ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0.0);
}

} // namespace liveblk::maint
