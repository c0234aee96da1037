// SPDX-License-Identifier: GPL-2.0-only
// POSIX extended expressions, by the C library: <regex> takes seconds to compile.
#pragma once

#include <regex.h>

#include <memory>
#include <stdexcept>
#include <string>

namespace hostile {

class Expression {
public:
    // Throws if it is none. The flags are those of regcomp(), as REG_ICASE.
    explicit Expression(const std::string &text, int flags = 0)
    {
        auto compiled = std::make_unique<regex_t>();
        if (regcomp(compiled.get(), text.c_str(), REG_EXTENDED | REG_NOSUB | flags))
            throw std::invalid_argument("not an expression: " + text);
        compiled_.reset(compiled.release());
    }

    bool found_in(const std::string &text) const { return regexec(compiled_.get(), text.c_str(), 0, nullptr, 0) == 0; }

private:
    struct Free {
        void operator()(regex_t *compiled) const
        {
            regfree(compiled);
            delete compiled;
        }
    };
    std::unique_ptr<regex_t, Free> compiled_;
};

} // namespace hostile
