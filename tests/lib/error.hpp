// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cerrno>
#include <string>
#include <system_error>

namespace liveblk::test {

// "what on which object: why", from errno or from a given number.
[[noreturn]] inline void throw_errno(const std::string &what, int number = errno)
{
    throw std::system_error(number, std::generic_category(), what);
}

} // namespace liveblk::test
