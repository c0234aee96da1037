// SPDX-License-Identifier: GPL-2.0-only
#include "text.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <iomanip>
#include <iostream>

namespace liveblk::maint {
namespace {

bool is_ascii(const std::string &text)
{
    return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

// What is no UTF-8 becomes replacement characters.
void make_utf8(nlohmann::ordered_json &value)
{
    if (value.is_structured()) {
        for (auto &part : value)
            make_utf8(part);
    } else if (value.is_string() && !is_ascii(value.get_ref<const std::string &>())) {
        constexpr auto replace = nlohmann::ordered_json::error_handler_t::replace;
        value = nlohmann::ordered_json::parse(value.dump(-1, ' ', false, replace));
    }
}

} // namespace

std::string human_date(std::uint32_t seconds)
{
    const std::time_t time = seconds;
    std::tm local = {};
    ::localtime_r(&time, &local);
    return fmt::format("{:%Y-%m-%d %H:%M:%S}", local);
}

std::string percentage(std::uint64_t part, std::uint64_t whole)
{
    return fmt::format("{:.1f}%", whole ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0.0);
}

void print_json(nlohmann::ordered_json value)
{
    make_utf8(value);
    // Not as one string: a hostile image can make it large.
    std::cout << std::setw(4) << value << std::endl;
}

} // namespace liveblk::maint
