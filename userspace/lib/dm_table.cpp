// SPDX-License-Identifier: GPL-2.0-only
#include "dm_table.hpp"

#include "error.hpp"

#include <fmt/ranges.h>

#include <algorithm>

namespace liveblk::dm {
namespace {

bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n';
}

} // namespace

std::vector<std::string> split_words(std::string_view params)
{
    std::vector<std::string> words;
    bool in_word = false;
    for (std::size_t i = 0; i < params.size(); i++) {
        if (is_blank(params[i])) {
            in_word = false;
            continue;
        }
        if (!in_word)
            words.emplace_back();
        in_word = true;
        // The last character of all stands for itself.
        if (params[i] == '\\' && i + 1 < params.size())
            i++;
        words.back() += params[i];
    }
    return words;
}

bool Qcow2Table::has(std::string_view argument) const
{
    return std::find(arguments.begin(), arguments.end(), argument) != arguments.end();
}

Target Qcow2Table::with_fd(int fd, std::uint64_t new_sectors) const
{
    std::string params = fmt::format("fd:{}", fd);
    if (!arguments.empty())
        params += fmt::format(" {} {}", arguments.size(), fmt::join(arguments, " "));
    return {.start = 0, .length = new_sectors, .type = qcow2_target, .params = params};
}

bool is_qcow2(const std::vector<Target> &table)
{
    return table.size() == 1 && table[0].type == qcow2_target;
}

Qcow2Table parse_qcow2(const std::vector<Target> &table, const std::string &device)
{
    if (!is_qcow2(table))
        fail("read the table of '{}': it is not a dm-qcow2 device", device);
    std::vector<std::string> words = split_words(table[0].params);
    if (words.empty() || !words[0].starts_with('/'))
        fail("read the table of '{}': it names no image", device);
    Qcow2Table result;
    result.sectors = table[0].length;
    result.image = words[0];
    if (words.size() > 1) {
        if (words[1] != std::to_string(words.size() - 2))
            fail("read the table of '{}': {} arguments are announced as {}", device, words.size() - 2, words[1]);
        result.arguments.assign(words.begin() + 2, words.end());
    }
    return result;
}

} // namespace liveblk::dm
