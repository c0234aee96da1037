// SPDX-License-Identifier: GPL-2.0-only
#include "original.hpp"

#include "base/error.hpp"
#include "control.hpp"

#include <fmt/ranges.h>

#include <linux/fs.h>
#include <sys/ioctl.h>

#include <charconv>
#include <sstream>
#include <string_view>
#include <vector>

namespace liveblk::interpose {
namespace {

constexpr std::string_view mark = "[interpose]";

std::uint64_t number(const std::string &word, const char *what)
{
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error != std::errc() || end != word.data() + word.size())
        fail("read the table: '{}' is no {}", word, what);
    return value;
}

} // namespace

std::uint64_t sectors_of(const std::string &device)
{
    const UniqueFd fd = open_device(device);
    std::uint64_t bytes = 0;
    if (::ioctl(fd.get(), BLKGETSIZE64, &bytes) != 0)
        fail_errno(fmt::format("get the size of '{}'", device));
    return bytes / 512;
}

MarkedTable parse_table(const std::string &text)
{
    std::istringstream stream(text);
    std::vector<std::string> words;
    for (std::string word; stream >> word;)
        words.push_back(word);
    if (words.size() < 3)
        fail("read the table: it is not 'START LENGTH TYPE PARAMETERS'");
    if (text.find('\n') != std::string::npos && text.find('\n') + 1 < text.size())
        fail("read the table: it has more than one line");
    MarkedTable table;
    table.target.start = number(words[0], "start");
    table.target.length = number(words[1], "length");
    table.target.type = words[2];
    for (std::size_t i = 3; i < words.size(); i++) {
        if (!words[i].starts_with(mark))
            continue;
        if (!table.original.empty())
            fail("read the table: more than one device is marked with '{}'", mark);
        table.original = words[i].substr(mark.size());
        words[i] = mark;
    }
    if (table.original.empty())
        fail("read the table: no device is marked with '{}'", mark);
    words.erase(words.begin(), words.begin() + 3);
    table.target.params = fmt::format("{}", fmt::join(words, " "));
    return table;
}

dm::Target MarkedTable::on(const std::string &lower) const
{
    dm::Target result = target;
    result.params.replace(result.params.find(mark), mark.size(), lower);
    return result;
}

} // namespace liveblk::interpose
