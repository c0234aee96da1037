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
    using namespace liveblk::interpose;
    CLI::App app{"Put a device-mapper target under a device that is in use", "blk-interpose"};
    app.footer("Example:\n  blk-interpose snapshot /dev/vda1 monday --cow /srv/monday.cow\n\n"
               "Exit status: 0 done, 1 refused or failed with everything put back, 2 usage.");
    app.require_subcommand(1);
    Action action;
    add_create(app, action);
    add_remove(app, action);
    add_list(app, action);
    add_status(app, action);
    add_snapshot(app, action);
    add_track(app, action);
    add_changes(app, action);
    try {
        app.parse(argc, argv);
        action();
        return 0;
    } catch (const CLI::ParseError &e) {
        return app.exit(e) == 0 ? 0 : status_usage;
    } catch (const std::exception &e) {
        fmt::print(stderr, "blk-interpose: {}\n", e.what());
        return status_failed;
    }
}
