// SPDX-License-Identifier: GPL-2.0-only
// Facts to be printed as JSON, with names in the order in which they were added; and options to be read from it. The
// library behind it, nlohmann's, takes seconds to compile and is seen by json.cpp alone.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace liveblk {

class Json {
public:
    using Array = std::vector<Json>;
    using Object = std::vector<std::pair<std::string, Json>>;

    Json() : value_(Object()) {}
    Json(std::initializer_list<std::pair<std::string, Json>> members) : value_(Object(members)) {}
    Json(const char *text) : value_(std::string(text)) {}
    Json(std::string text) : value_(std::move(text)) {}
    Json(bool value) : value_(value) {}
    Json(double value) : value_(value) {}
    Json(std::signed_integral auto value) : value_(std::int64_t{value}) {}
    Json(std::unsigned_integral auto value) : value_(std::uint64_t{value}) {}
    Json(const std::vector<std::string> &texts) : value_(Array(texts.begin(), texts.end())) {}
    static Json array();
    // An array whose items are made while it is printed, one at a time: it calls what it is given with each.
    using Items = std::function<void(const std::function<void(const Json &)> &)>;
    static Json items(Items make);

    // Of an object; a member that is not there is added.
    Json &operator[](const std::string &name);
    // To an array.
    void push_back(Json value);

    // To standard output, and a new line. What is no UTF-8 is shown with replacement characters.
    void print() const;

private:
    void print(unsigned depth) const;

    std::variant<std::string, bool, double, std::int64_t, std::uint64_t, Array, Object, Items> value_;
};

// What an object has, as text. A member of an object in it has the names of both with a dot between them, which may
// also be how it is written: {"file": {"driver": "x"}} and {"file.driver": "x"} are the same. Throws Error if the text
// is no object, or if a name is there twice.
std::map<std::string, std::string> json_options(std::string_view text);

} // namespace liveblk
