// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <fmt/core.h>

#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace liveblk {

// What was attempted, on what, and why it failed: one line for the user.
class Error : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The image needs something that is deliberately absent here.
class NotSupported : public Error {
    using Error::Error;
};

template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args &&...args)
{
    throw Error(fmt::format(text, std::forward<Args>(args)...));
}

template <typename... Args>
[[noreturn]] void not_supported(fmt::format_string<Args...> text, Args &&...args)
{
    throw NotSupported(fmt::format(text, std::forward<Args>(args)...));
}

// Appends the reason that errno, or a given number, stands for.
[[noreturn]] inline void fail_errno(const std::string &what, int number = errno)
{
    throw Error(what + ": " + std::generic_category().message(number));
}

} // namespace liveblk
