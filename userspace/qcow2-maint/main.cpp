// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

#include "live/session.hpp"
#include "qcow2/image_lock.hpp"

#include <string>

namespace {

// A live device's lock belongs to no process, but its table names the image.
std::string with_holder(const std::exception &e)
{
    const auto *in_use = dynamic_cast<const liveblk::qcow2::ImageInUse *>(&e);
    if (!in_use || in_use->holder_is_known())
        return e.what();
    const auto users = liveblk::live::users_of(in_use->path());
    if (!users.attached.empty())
        return fmt::format("{}: the image is in use by the live device {}; name that instead of the image",
                           in_use->attempt(), users.attached);
    if (!users.above.empty())
        return fmt::format("{}: the image is in use by the live device {}, as a backing file, which nobody may write "
                           "to meanwhile",
                           in_use->attempt(), users.above);
    return e.what();
}

} // namespace

int main(int argc, char **argv)
{
    using namespace liveblk::maint;
    liveblk::Program program("qcow2-maint", "Maintain a QCOW2 image, also while it is attached: facts, check, repair, "
                                            "snapshots, bitmaps, size");
    program.explain(with_holder);
    liveblk::Command root = program.root();
    root.footer("Example:\n  qcow2-maint snapshot create vm1 before-upgrade\n\n"
                "Exit status: 0 done, 1 refused or failed with nothing changed, 2 usage;\n"
                "of check: 0 clean, 1 internal, 2 corrupt, 3 leaks, 63 not supported.");
    root.needs_command();
    add_info(root);
    add_check(root);
    add_snapshot(root);
    add_bitmap(root);
    add_resize(root);
    add_attach(root);
    add_detach(root);
    add_resume(root);
    return program.run(argc, argv);
}
