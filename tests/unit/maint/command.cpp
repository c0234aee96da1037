// SPDX-License-Identifier: GPL-2.0-only
// The frame that all tools share: what is run, and with which status a program ends.
#include <catch2/catch.hpp>

#include "base/command.hpp"

#include <new>

namespace {

using namespace liveblk;

struct Given {
    std::string image;
    std::uint64_t number = 7;
    int choice = 0;
    bool flag = false;
};

void declare(Program &program, Given &given)
{
    Command root = program.root();
    root.needs_command();
    Command show = root.command("show", "");
    show.add("IMAGE", given.image).required();
    show.add("--number", given.number).within(1, 64);
    show.choice("--way", given.choice, {{"one", 1}, {"two", 2}}, "");
    show.flag("--flag", given.flag, "");
    show.action([] { return 5; });
    root.command("fail", "").action([] { fail("do it: no"); });
    root.command("exhaust", "").action([] { throw std::bad_alloc(); });
    Command check = root.command("check", "");
    check.usage_status(1);
    check.add("IMAGE", given.image).required();
    check.action([] {});
    Command group = root.command("group", "");
    group.needs_command();
    group.command("inner", "").action([] { return 9; });
}

int run(std::vector<std::string> words)
{
    Program program("unit", "");
    Given given;
    declare(program, given);
    std::vector<char *> argv;
    std::string name = "unit";
    argv.push_back(name.data());
    for (std::string &word : words)
        argv.push_back(word.data());
    argv.push_back(nullptr);
    return program.run(static_cast<int>(argv.size()) - 1, argv.data());
}

} // namespace

TEST_CASE("a program ends with the status of its command")
{
    CHECK(run({"show", "a"}) == 5);
    CHECK(run({"check", "a"}) == status_done);
    CHECK(run({"group", "inner"}) == 9);
    CHECK(run({"fail"}) == status_failed);
    CHECK(run({"exhaust"}) == status_failed);
    CHECK(run({"--help"}) == status_done);
    CHECK(run({"check", "--help"}) == status_done);
    CHECK(run({"--version"}) == status_done);
}

TEST_CASE("wrong usage has a status of its own, which a command may change")
{
    CHECK(run({}) == status_usage);
    CHECK(run({"none"}) == status_usage);
    CHECK(run({"group"}) == status_usage);
    CHECK(run({"group", "none"}) == status_usage);
    CHECK(run({"show"}) == status_usage);
    CHECK(run({"show", "a", "--none"}) == status_usage);
    CHECK(run({"check"}) == status_failed);
    CHECK(run({"check", "a", "--none"}) == status_failed);
}

TEST_CASE("variables have what was given")
{
    Program program("unit", "");
    Given given;
    declare(program, given);
    const auto action = program.parse({"show", "a", "--way", "two", "--flag", "--number", "64"});
    CHECK(given.image == "a");
    CHECK(given.number == 64);
    CHECK(given.choice == 2);
    CHECK(given.flag);
    CHECK(action() == 5);
}

TEST_CASE("values that an argument does not take are wrong usage")
{
    for (const std::vector<std::string> &words : {std::vector<std::string>{"show", "a", "--way", "three"},
                                                  {"show", "a", "--number", "65"},
                                                  {"show", "a", "--number", "0"},
                                                  {"show", "a", "--number", "x"},
                                                  {"show"}}) {
        Program program("unit", "");
        Given given;
        declare(program, given);
        CHECK_THROWS_AS(program.parse(words), UsageError);
    }
}
