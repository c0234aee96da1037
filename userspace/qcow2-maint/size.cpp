// SPDX-License-Identifier: GPL-2.0-only
#include "size.hpp"

#include "base/byte_size.hpp"
#include "base/error.hpp"

namespace liveblk::maint {

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
    size.bytes = parse_bytes(text.substr(relative ? 1 : 0));
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
