// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <exception>

namespace {

constexpr int status_failed = 1;
constexpr int status_usage = 2;

} // namespace

int main(int argc, char **argv)
{
    using namespace liveblk::copy;
    CLI::App app{"Copy inside storage, without moving the bytes through the host", "blk-copy"};
    app.footer("Example:\n  blk-copy /dev/loopc0:0 /dev/loopc0:10g 1g\n\n"
               "Exit status: 0 done, 1 refused or failed, 2 usage. What was copied before a failure stays.");
    app.require_subcommand(0, 1);
    Action action;
    add_copy(app, action);
    add_loop(app, action);
    add_null(app, action);
    try {
        app.parse(argc, argv);
        action();
        return 0;
    } catch (const CLI::ParseError &e) {
        return app.exit(e) == 0 ? 0 : status_usage;
    } catch (const std::exception &e) {
        fmt::print(stderr, "blk-copy: {}\n", e.what());
        return status_failed;
    }
}
