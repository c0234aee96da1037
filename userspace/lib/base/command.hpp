// SPDX-License-Identifier: GPL-2.0-only
// The frame of a program: its commands with their arguments, declared; --help, --version, usage errors, what failed,
// and the exit status. The parser behind it, CLI11, takes seconds to compile and is seen by command.cpp alone.
#pragma once

#include "base/error.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

namespace CLI {
class App;
class Option;
} // namespace CLI

namespace liveblk {

// The exit status of a program, unless one of its commands has others.
inline constexpr int status_done = 0;
inline constexpr int status_failed = 1;
inline constexpr int status_usage = 2;

// Wrong words on the command line.
class UsageError : public Error {
    using Error::Error;
};

// An option or a positional argument, once it is declared. It refuses values in the order of these calls.
class Argument {
public:
    explicit Argument(CLI::Option *option) : option_(option) {}

    Argument &required();
    Argument &excludes(const Argument &other);
    Argument &needs(const Argument &other);
    // The function says why a text is no value; it returns an empty string if it is one.
    Argument &check(std::function<std::string(const std::string &)> why_not);
    Argument &positive();
    Argument &within(double low, double high);
    Argument &one_of(const std::vector<std::string> &words);
    // Of a number: with K, M, G or the like behind it, in powers of 1024.
    Argument &size();
    // Of several values: one word, with this between them.
    Argument &separated_by(char delimiter);
    Argument &count(int values);
    // What help shows in place of the type.
    Argument &shown_as(const std::string &text);

    // Whether it was on the command line, once that was parsed.
    bool given() const;

private:
    CLI::Option *option_;
};

// A word of a choice, and what it stands for.
template <typename Value>
struct Choice {
    const char *word;
    Value value;
};

class Program;

// The program itself or one of its subcommands. Refers to the program.
class Command {
public:
    using Action = std::function<int()>;

    Command command(const std::string &name, const std::string &text);
    Command &footer(const std::string &text);
    // One of its subcommands has to be given.
    Command &needs_command();
    Command &usage_status(int status);

    // NAME is a positional argument, -n,--name an option. The variable keeps its value if it is not given.
    Argument add(const std::string &name, std::string &value, const std::string &text = "");
    Argument add(const std::string &name, std::uint64_t &value, const std::string &text = "");
    Argument add(const std::string &name, unsigned &value, const std::string &text = "");
    Argument add(const std::string &name, std::optional<std::uint64_t> &value, const std::string &text = "");
    Argument add(const std::string &name, double &value, const std::string &text = "");
    Argument add(const std::string &name, std::vector<std::string> &values, const std::string &text = "");
    Argument add(const std::string &name, std::vector<unsigned> &values, const std::string &text = "");
    Argument flag(const std::string &name, bool &value, const std::string &text);

    template <typename Value>
    Argument choice(const std::string &name, Value &value, std::initializer_list<Choice<Value>> choices,
                    const std::string &text)
    {
        std::vector<std::string> words;
        std::vector<Value> values;
        for (const Choice<Value> &c : choices) {
            words.emplace_back(c.word);
            values.push_back(c.value);
        }
        return add_choice(
            name, std::move(words), [&value, values](std::size_t index) { value = values[index]; }, text);
    }

    // What is done if it is the last command given; it returns nothing, or the exit status.
    template <typename Function>
    Command &action(Function function)
    {
        if constexpr (std::is_void_v<std::invoke_result_t<Function &>>)
            return set_action([function = std::move(function)]() mutable {
                function();
                return status_done;
            });
        else
            return set_action(std::move(function));
    }

private:
    friend Program;
    Command(Program &program, CLI::App &app) : program_(&program), app_(&app) {}
    Argument add_choice(const std::string &name, std::vector<std::string> words,
                        std::function<void(std::size_t)> choose, const std::string &text);
    Command &set_action(Action action);

    Program *program_;
    CLI::App *app_;
};

class Program {
public:
    Program(std::string name, const std::string &text);
    Program(const Program &) = delete;
    Program &operator=(const Program &) = delete;
    ~Program();

    Command root();
    // The status of what fails, if it is not status_failed.
    void failure_status(int status);
    // What to say of what was thrown, if not what it says itself.
    void explain(std::function<std::string(const std::exception &)> words);

    // Returns what the words ask for; throws UsageError. The words are those after the program's name.
    Command::Action parse(std::vector<std::string> words);
    // Does it, and says on standard error what failed. Returns the exit status.
    int run(int argc, char **argv);

private:
    friend Command;
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace liveblk
