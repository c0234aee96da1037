// SPDX-License-Identifier: GPL-2.0-only
#include "size.hpp"

#include "error.hpp"

#include <charconv>
#include <string_view>

namespace liveblk::maint {
namespace {

constexpr std::uint64_t max_size = INT64_MAX;

unsigned shift_of(const std::string &whole, std::string_view suffix)
{
    if (suffix.empty() || suffix == "B" || suffix == "b")
        return 0;
    static constexpr std::string_view letters = "KMGTPE";
    const char upper = static_cast<char>(suffix[0] & ~0x20);
    const auto at = letters.find(upper);
    if (at == std::string_view::npos || (suffix.size() > 1 && suffix.substr(1) != "iB"))
        fail("read the size '{}': it is a number with one of the suffixes K, M, G, T, P, E", whole);
    return 10 * (static_cast<unsigned>(at) + 1);
}

} // namespace

std::uint64_t parse_size(const std::string &text, std::uint64_t current)
{
    const char sign = text.empty() ? '\0' : text[0];
    const bool relative = sign == '+' || sign == '-';
    const char *begin = text.data() + (relative ? 1 : 0);
    const char *end = text.data() + text.size();
    std::uint64_t value = 0;
    const auto parsed = std::from_chars(begin, end, value);
    if (parsed.ec != std::errc())
        fail("read the size '{}': it is not a number", text);
    const unsigned shift = shift_of(text, std::string_view(parsed.ptr, static_cast<std::size_t>(end - parsed.ptr)));
    if (value > (max_size >> shift))
        fail("read the size '{}': it is too large", text);
    value <<= shift;
    if (!relative)
        return value;
    if (sign == '-' && value >= current)
        fail("take {} bytes from a size of {}: nothing would be left", value, current);
    return sign == '+' ? current + value : current - value;
}

} // namespace liveblk::maint
