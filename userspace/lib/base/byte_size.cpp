// SPDX-License-Identifier: GPL-2.0-only
#include "base/byte_size.hpp"

#include "base/error.hpp"

#include <array>
#include <charconv>
#include <string_view>
#include <system_error>

namespace liveblk {
namespace {

constexpr std::uint64_t max_bytes = INT64_MAX;
// More digits of a fraction than these are less than a byte, whatever the suffix is.
constexpr std::size_t max_fraction_digits = 19;

class Parser {
public:
    explicit Parser(const std::string &text) : text_(text), rest_(text) {}

    std::uint64_t parse()
    {
        if (rest_.starts_with("0x") || rest_.starts_with("0X")) {
            rest_.remove_prefix(2);
            const std::uint64_t value = take_number(16);
            if (!rest_.empty())
                fail("read the size '{}': a hexadecimal number has no fraction and no suffix", text_);
            return bounded(value);
        }
        const std::uint64_t whole = take_number(10);
        if (rest_.starts_with('.')) {
            rest_.remove_prefix(1);
            take_fraction();
        }
        const unsigned shift = take_suffix();
        if (!shift && digits_)
            fail("read the size '{}': there are no parts of bytes", text_);
        if (whole > max_bytes >> shift)
            too_large();
        return bounded((whole << shift) + scaled_fraction(shift));
    }

private:
    [[noreturn]] void too_large() const { fail("read the size '{}': it is too large", text_); }

    std::uint64_t bounded(std::uint64_t value) const
    {
        if (value > max_bytes)
            too_large();
        return value;
    }

    std::uint64_t take_number(int base)
    {
        std::uint64_t value = 0;
        const auto parsed = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value, base);
        if (parsed.ec == std::errc::invalid_argument)
            fail("read the size '{}': it is not a number", text_);
        if (parsed.ec != std::errc())
            too_large();
        rest_.remove_prefix(static_cast<std::size_t>(parsed.ptr - rest_.data()));
        return value;
    }

    void take_fraction()
    {
        for (std::size_t n = 0; !rest_.empty() && rest_[0] >= '0' && rest_[0] <= '9'; n++, rest_.remove_prefix(1)) {
            if (n >= max_fraction_digits)
                continue;
            digits_ = digits_ * 10 + static_cast<unsigned>(rest_[0] - '0');
            divisor_ *= 10;
        }
    }

    unsigned take_suffix()
    {
        static constexpr std::string_view letters = "BKMGTPE";
        if (rest_.empty())
            return 0;
        const auto at = letters.find(static_cast<char>(rest_[0] & ~0x20));
        if (at == std::string_view::npos || (rest_.size() > 1 && (!at || rest_.substr(1) != "iB")))
            fail("read the size '{}': it is a number with one of the suffixes K, M, G, T, P, E", text_);
        return 10 * static_cast<unsigned>(at);
    }

    std::uint64_t scaled_fraction(unsigned shift) const
    {
        return static_cast<std::uint64_t>(((digits_ << shift) + divisor_ / 2) / divisor_);
    }

    __extension__ using Wide = unsigned __int128;

    const std::string &text_;
    std::string_view rest_;
    Wide digits_ = 0;
    Wide divisor_ = 1;
};

} // namespace

std::uint64_t parse_bytes(const std::string &text)
{
    return Parser(text).parse();
}

std::string human_size(std::uint64_t bytes)
{
    static constexpr std::array units = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    std::size_t unit = 0;
    double value = static_cast<double>(bytes);
    while (value >= 1024 && unit + 1 < units.size()) {
        value /= 1024;
        unit++;
    }
    // Three digits, but never in the form 1.02e+03.
    return value < 1000 ? fmt::format("{:.3g} {}", value, units[unit]) : fmt::format("{:.0f} {}", value, units[unit]);
}

} // namespace liveblk
