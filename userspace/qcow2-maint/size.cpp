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

std::uint64_t Size::from(std::uint64_t present) const
{
    if (sign == '-' && bytes >= present)
        fail("take {} bytes from a size of {}: nothing would be left", bytes, present);
    if (sign == '\0')
        return bytes;
    return sign == '+' ? present + bytes : present - bytes;
}

Size parse_size(const std::string &text)
{
    Size size;
    const bool relative = text.starts_with('+') || text.starts_with('-');
    if (relative)
        size.sign = text[0];
    const char *begin = text.data() + (relative ? 1 : 0);
    const char *end = text.data() + text.size();
    const auto parsed = std::from_chars(begin, end, size.bytes);
    if (parsed.ec == std::errc::invalid_argument)
        fail("read the size '{}': it is not a number", text);
    const unsigned shift = shift_of(text, std::string_view(parsed.ptr, static_cast<std::size_t>(end - parsed.ptr)));
    if (parsed.ec != std::errc() || size.bytes > (max_size >> shift))
        fail("read the size '{}': it is too large", text);
    size.bytes <<= shift;
    return size;
}

std::string why_no_size(const std::string &text)
{
    try {
        parse_size(text);
    } catch (const Error &e) {
        return e.what();
    }
    return {};
}

} // namespace liveblk::maint
