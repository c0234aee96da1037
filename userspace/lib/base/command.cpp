// SPDX-License-Identifier: GPL-2.0-only
#include "base/command.hpp"

#include <CLI/CLI.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <new>

namespace liveblk {
namespace {

// A file that takes the place of a closed standard stream would get what is printed: it may be an image.
void open_standard_streams()
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", O_RDWR) != fd)
            ::_exit(status_failed);
}

void flush_output()
{
    if (std::fflush(stdout) != 0 || std::ferror(stdout))
        fail_errno("write to standard output");
}

const CLI::App &last_command(const CLI::App &app)
{
    const CLI::App *command = &app;
    while (!command->get_subcommands().empty())
        command = command->get_subcommands().front();
    return *command;
}

// The word in the place of a subcommand, if it is none.
std::string unknown_command(const CLI::App &app)
{
    const CLI::App &command = last_command(app);
    const std::vector<std::string> left = command.remaining();
    if (command.get_require_subcommand_min() == 0 || left.empty() || left.front().starts_with('-'))
        return {};
    return left.front();
}

// What a command works on: its first positional argument.
std::string object_of(const CLI::App &app)
{
    for (const CLI::Option *option : last_command(app).get_options())
        if (option->get_positional() && option->count())
            return option->results().front();
    return {};
}

template <typename Value>
Argument add_to(CLI::App &app, const std::string &name, Value &value, const std::string &text)
{
    return Argument(app.add_option(name, value, text));
}

} // namespace

Argument &Argument::required()
{
    option_->required();
    return *this;
}

Argument &Argument::excludes(const Argument &other)
{
    option_->excludes(other.option_);
    return *this;
}

Argument &Argument::needs(const Argument &other)
{
    option_->needs(other.option_);
    return *this;
}

Argument &Argument::check(std::function<std::string(const std::string &)> why_not)
{
    option_->check(std::move(why_not));
    return *this;
}

Argument &Argument::positive()
{
    option_->check(CLI::PositiveNumber);
    return *this;
}

Argument &Argument::within(double low, double high)
{
    option_->check([low, high](const std::string &text) {
        double value = 0;
        if (CLI::detail::lexical_cast(text, value) && value >= low && value <= high)
            return std::string();
        return fmt::format("Value {} not in range {:.0f} to {:.0f}", text, low, high);
    });
    return *this;
}

Argument &Argument::one_of(const std::vector<std::string> &words)
{
    option_->check(CLI::IsMember(words));
    return *this;
}

Argument &Argument::size()
{
    option_->transform(CLI::AsSizeValue(false));
    return *this;
}

Argument &Argument::separated_by(char delimiter)
{
    option_->delimiter(delimiter);
    return *this;
}

Argument &Argument::count(int values)
{
    option_->expected(values);
    return *this;
}

Argument &Argument::shown_as(const std::string &text)
{
    option_->option_text(text);
    return *this;
}

bool Argument::given() const
{
    return option_->count() != 0;
}

struct Program::State {
    CLI::App app;
    std::map<const CLI::App *, Command::Action> actions;
    std::map<const CLI::App *, int> usage_statuses;
    int failure_status = status_failed;
    std::function<std::string(const std::exception &)> words;

    State(std::string name, const std::string &text) : app(text, std::move(name)) {}

    Command::Action action() const
    {
        const auto it = actions.find(&last_command(app));
        return it == actions.end() ? [] { return status_done; } : it->second;
    }

    int usage_status() const
    {
        for (const CLI::App *command = &last_command(app); command; command = command->get_parent())
            if (const auto it = usage_statuses.find(command); it != usage_statuses.end())
                return it->second;
        return status_usage;
    }

    // Help and the version are asked for by such an exception too, and go to standard output.
    int tell_parse_error(const CLI::ParseError &e) const
    {
        if (const std::string word = unknown_command(app); e.get_exit_code() != 0 && !word.empty())
            return tell_usage_error(fmt::format("{}: unknown subcommand '{}'", app.get_name(), word));
        return app.exit(e) == 0 ? status_done : usage_status();
    }

    int tell_usage_error(const std::string &text) const
    {
        fmt::print(stderr, "{}\nRun with --help for more information.\n", text);
        return usage_status();
    }

    int tell_failure(const std::string &text) const
    {
        fmt::print(stderr, "{}: {}\n", app.get_name(), text);
        return failure_status;
    }

    std::string no_memory() const
    {
        const std::string object = object_of(app);
        if (object.empty())
            return "there is not enough memory";
        return fmt::format("work on '{}': there is not enough memory", object);
    }
};

Command Command::command(const std::string &name, const std::string &text)
{
    return {*program_, *app_->add_subcommand(name, text)};
}

Command &Command::footer(const std::string &text)
{
    app_->footer(text);
    return *this;
}

Command &Command::needs_command()
{
    app_->require_subcommand(1);
    return *this;
}

Command &Command::usage_status(int status)
{
    program_->state_->usage_statuses[app_] = status;
    return *this;
}

Argument Command::add(const std::string &name, std::string &value, const std::string &text)
{
    return add_to(*app_, name, value, text);
}

Argument Command::add(const std::string &name, std::uint64_t &value, const std::string &text)
{
    return add_to(*app_, name, value, text);
}

Argument Command::add(const std::string &name, unsigned &value, const std::string &text)
{
    return add_to(*app_, name, value, text);
}

Argument Command::add(const std::string &name, std::optional<std::uint64_t> &value, const std::string &text)
{
    return add_to(*app_, name, value, text);
}

Argument Command::add(const std::string &name, double &value, const std::string &text)
{
    return add_to(*app_, name, value, text);
}

Argument Command::add(const std::string &name, std::vector<std::string> &values, const std::string &text)
{
    return add_to(*app_, name, values, text);
}

Argument Command::add(const std::string &name, std::vector<unsigned> &values, const std::string &text)
{
    return add_to(*app_, name, values, text);
}

Argument Command::flag(const std::string &name, bool &value, const std::string &text)
{
    return Argument(app_->add_flag(name, value, text));
}

Argument Command::add_choice(const std::string &name, std::vector<std::string> words,
                             std::function<void(std::size_t)> choose, const std::string &text)
{
    const CLI::IsMember is_one(words);
    const auto chosen = [words = std::move(words), choose = std::move(choose)](const std::string &word) {
        choose(static_cast<std::size_t>(std::find(words.begin(), words.end(), word) - words.begin()));
    };
    return Argument(app_->add_option_function<std::string>(name, chosen, text)->check(is_one));
}

Command &Command::set_action(Action action)
{
    program_->state_->actions[app_] = std::move(action);
    return *this;
}

Program::Program(std::string name, const std::string &text) : state_(std::make_unique<State>(std::move(name), text))
{
    CLI::App &app = state_->app;
    app.require_subcommand(0, 1);
    app.set_version_flag("--version", fmt::format("{} from liveblk {}", app.get_name(), LIVEBLK_VERSION),
                         "Print the version and exit");
}

Program::~Program() = default;

Command Program::root()
{
    return {*this, state_->app};
}

void Program::failure_status(int status)
{
    state_->failure_status = status;
}

void Program::explain(std::function<std::string(const std::exception &)> words)
{
    state_->words = std::move(words);
}

Command::Action Program::parse(std::vector<std::string> words)
{
    std::reverse(words.begin(), words.end()); // as CLI11 takes them
    try {
        state_->app.parse(std::move(words));
    } catch (const CLI::ParseError &e) {
        throw UsageError(e.what());
    }
    return state_->action();
}

int Program::run(int argc, char **argv)
{
    open_standard_streams();
    const State &state = *state_;
    try {
        state_->app.parse(argc, argv);
        const int status = state.action()();
        flush_output();
        return status;
    } catch (const CLI::ParseError &e) {
        return state.tell_parse_error(e);
    } catch (const UsageError &e) {
        return state.tell_usage_error(e.what());
    } catch (const std::bad_alloc &) {
        return state.tell_failure(state.no_memory());
    } catch (const std::exception &e) {
        return state.tell_failure(state.words ? state.words(e) : e.what());
    }
}

} // namespace liveblk
