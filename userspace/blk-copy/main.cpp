// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

int main(int argc, char **argv)
{
    using namespace liveblk::copy;
    liveblk::Program program("blk-copy", "Copy inside storage, without moving the bytes through the host");
    liveblk::Command root = program.root();
    root.footer("Example:\n  blk-copy /dev/loopc0:0 /dev/loopc0:10g 1g\n\n"
                "Exit status: 0 done, 1 refused or failed, 2 usage. What was copied before a failure stays.");
    add_copy(root);
    add_loop(root);
    add_null(root);
    return program.run(argc, argv);
}
