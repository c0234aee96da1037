// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

int main(int argc, char **argv)
{
    using namespace liveblk::interpose;
    liveblk::Program program("blk-interpose", "Put a device-mapper target under a device that is in use");
    liveblk::Command root = program.root();
    root.footer("Example:\n  blk-interpose snapshot /dev/vda1 monday --cow /srv/monday.cow\n\n"
                "Exit status: 0 done, 1 refused or failed with everything put back, 2 usage.");
    root.needs_command();
    add_create(root);
    add_remove(root);
    add_list(root);
    add_status(root);
    add_snapshot(root);
    add_track(root);
    add_changes(root);
    return program.run(argc, argv);
}
