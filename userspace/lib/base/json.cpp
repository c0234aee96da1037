// SPDX-License-Identifier: GPL-2.0-only
#include "base/json.hpp"

#include "base/error.hpp"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>
#include <string>
#include <string_view>

namespace liveblk {
namespace {

constexpr unsigned indent = 4;

constexpr std::array<std::string_view, ' '> escapes = {
    "\\u0000", "\\u0001", "\\u0002", "\\u0003", "\\u0004", "\\u0005", "\\u0006", "\\u0007",
    "\\b",     "\\t",     "\\n",     "\\u000b", "\\f",     "\\r",     "\\u000e", "\\u000f",
    "\\u0010", "\\u0011", "\\u0012", "\\u0013", "\\u0014", "\\u0015", "\\u0016", "\\u0017",
    "\\u0018", "\\u0019", "\\u001a", "\\u001b", "\\u001c", "\\u001d", "\\u001e", "\\u001f"};

std::string dump(const nlohmann::json &value)
{
    return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void print_leaf(const nlohmann::json &value)
{
    fmt::print("{}", dump(value));
}

// Control characters are escaped here: the library calls snprintf() for each, which is seconds for what a hostile image
// has for names.
void print_leaf(const std::string &text)
{
    const auto is_control = [](unsigned char c) { return c < ' '; };
    std::string line = "\"";
    for (auto at = text.begin(); at != text.end();) {
        const auto control = std::find_if(at, text.end(), is_control);
        if (control != at) {
            const std::string quoted = dump(std::string(at, control));
            line.append(quoted, 1, quoted.size() - 2);
        }
        at = std::find_if_not(control, text.end(), is_control);
        std::for_each(control, at, [&line](unsigned char c) { line += escapes[c]; });
    }
    fmt::print("{}\"", line);
}

// Each on a line of its own. Piece by piece: a hostile image can make the whole large.
template <typename ForEach, typename Print>
void print_lines(char opening, char closing, unsigned depth, ForEach for_each, Print print)
{
    bool empty = true;
    fmt::print("{}", opening);
    for_each([&](const auto &item) {
        fmt::print("{}{:{}}", empty ? "\n" : ",\n", "", (depth + 1) * indent);
        print(item);
        empty = false;
    });
    if (!empty)
        fmt::print("\n{:{}}", "", depth * indent);
    fmt::print("{}", closing);
}

template <typename Range>
auto each_of(const Range &range)
{
    return [&range](const auto &print) { std::for_each(range.begin(), range.end(), print); };
}

// The library takes the last of two members of one name.
nlohmann::json parse_distinct(std::string_view text)
{
    using Event = nlohmann::json::parse_event_t;
    std::vector<std::set<std::string>> names;
    return nlohmann::json::parse(text, [&names](int, Event event, nlohmann::json &value) {
        if (event == Event::object_start)
            names.emplace_back();
        else if (event == Event::object_end)
            names.pop_back();
        else if (event == Event::key && !names.back().insert(value.get<std::string>()).second)
            fail("the member \"{}\" is there twice", value.get<std::string>());
        return true;
    });
}

void add_options(const nlohmann::json &object, const std::string &prefix, std::map<std::string, std::string> &options)
{
    for (const auto &[name, value] : object.items()) {
        if (value.is_object())
            add_options(value, prefix + name + ".", options);
        else if (!options.emplace(prefix + name, value.is_string() ? value.get<std::string>() : value.dump()).second)
            fail("the member \"{}\" is there twice", prefix + name);
    }
}

} // namespace

std::map<std::string, std::string> json_options(std::string_view text)
{
    std::map<std::string, std::string> options;
    try {
        const nlohmann::json object = parse_distinct(text);
        if (!object.is_object())
            fail("this is no JSON object");
        add_options(object, "", options);
    } catch (const nlohmann::json::exception &e) {
        fail("this is no JSON: {}", e.what());
    }
    return options;
}

Json Json::array()
{
    Json json;
    json.value_ = Array();
    return json;
}

Json Json::items(Items make)
{
    Json json;
    json.value_ = std::move(make);
    return json;
}

Json &Json::operator[](const std::string &name)
{
    Object &members = std::get<Object>(value_);
    const auto it = std::find_if(members.begin(), members.end(), [&](const auto &m) { return m.first == name; });
    return it != members.end() ? it->second : members.emplace_back(name, Json()).second;
}

void Json::push_back(Json value)
{
    std::get<Array>(value_).push_back(std::move(value));
}

void Json::print() const
{
    print(0);
    fmt::print("\n");
}

void Json::print(unsigned depth) const
{
    const auto print_item = [depth](const Json &item) { item.print(depth + 1); };
    const auto print_value = [&](const auto &value) {
        using Value = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<Value, Array>)
            print_lines('[', ']', depth, each_of(value), print_item);
        else if constexpr (std::is_same_v<Value, Items>)
            print_lines('[', ']', depth, value, print_item);
        else if constexpr (std::is_same_v<Value, Object>)
            print_lines('{', '}', depth, each_of(value), [&](const auto &member) {
                print_leaf(member.first);
                fmt::print(": ");
                member.second.print(depth + 1);
            });
        else
            print_leaf(value);
    };
    std::visit(print_value, value_);
}

} // namespace liveblk
