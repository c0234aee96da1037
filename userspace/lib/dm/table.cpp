// SPDX-License-Identifier: GPL-2.0-only
#include "dm/table.hpp"

#include "base/error.hpp"

#include <algorithm>

namespace liveblk::dm {
namespace {

// "backing", the format, the image
constexpr std::size_t words_below = 3;
// "data_file", the file
constexpr std::size_t words_data = 2;

bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n';
}

Below parse_below(const std::vector<std::string> &words, std::size_t at, const std::string &device)
{
    if (words.size() - at < words_below)
        fail("read the table of '{}': its argument 'backing' has no format and no image", device);
    const Below below = {.format = words[at + 1], .image = words[at + 2]};
    if ((below.format != "qcow2" && below.format != "raw") || !below.image.starts_with('/'))
        fail("read the table of '{}': '{}' and '{}' are no format and path of a backing image", device, below.format,
             below.image);
    return below;
}

std::string parse_data_file(const std::vector<std::string> &words, std::size_t at, const std::string &device)
{
    if (words.size() - at < words_data || !words[at + 1].starts_with('/'))
        fail("read the table of '{}': its argument 'data_file' has no path", device);
    return words[at + 1];
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

std::vector<std::string> Qcow2Table::paths() const
{
    std::vector<std::string> all = {image};
    if (!data_file.empty())
        all.push_back(data_file);
    for (const Below &below : backing)
        all.push_back(below.image);
    return all;
}

Qcow2Table Qcow2Table::under(const std::string &top) const
{
    Qcow2Table table = *this;
    table.image = top;
    table.backing.insert(table.backing.begin(), {.format = "qcow2", .image = image});
    return table;
}

Target Qcow2Table::with_fds(int fd, const std::vector<int> &backing_fds, int data_fd, std::uint64_t new_sectors) const
{
    std::string params = fmt::format("fd:{}", fd);
    const std::size_t for_data = data_file.empty() ? 0 : words_data;
    if (const std::size_t count = arguments.size() + for_data + words_below * backing.size())
        params += fmt::format(" {}", count);
    for (const std::string &argument : arguments)
        params += " " + argument;
    if (for_data)
        params += fmt::format(" data_file fd:{}", data_fd);
    for (std::size_t i = 0; i < backing.size(); i++)
        params += fmt::format(" backing {} fd:{}", backing[i].format, backing_fds.at(i));
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
    if (words.size() > 1 && words[1] != std::to_string(words.size() - 2))
        fail("read the table of '{}': {} arguments are announced as {}", device, words.size() - 2, words[1]);
    for (std::size_t i = 2; i < words.size();) {
        if (words[i] == "data_file") {
            result.data_file = parse_data_file(words, i, device);
            i += words_data;
            continue;
        }
        if (words[i] != "backing") {
            result.arguments.push_back(words[i++]);
            continue;
        }
        result.backing.push_back(parse_below(words, i, device));
        i += words_below;
    }
    return result;
}

} // namespace liveblk::dm
