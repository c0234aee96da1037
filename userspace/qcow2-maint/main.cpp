// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"
#include "error.hpp"
#include "image_lock.hpp"
#include "live.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <new>
#include <string>

namespace {

using namespace liveblk::maint;

int usage(const CLI::App &app, const CLI::ParseError &e)
{
    // Help is asked for by such an exception too, and goes to standard output.
    if (app.exit(e) == 0)
        return status_done;
    // Of check, 2 says that an image is corrupt.
    return app.got_subcommand("check") ? status_failed : status_usage;
}

// A file that takes the place of a closed standard stream would get what is printed: it may be the image.
void open_standard_streams()
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", O_RDWR) != fd)
            ::_exit(status_failed);
}

// What the command works on, for errors that do not know.
std::string image_of(const CLI::App &app)
{
    const CLI::App *command = &app;
    while (!command->get_subcommands().empty())
        command = command->get_subcommands().front();
    const CLI::Option *image = command->get_option_no_throw("IMAGE");
    return image && image->count() ? image->as<std::string>() : "the image";
}

// A live device's lock belongs to no process, but its table names the image.
std::string with_holder(const liveblk::qcow2::ImageInUse &e)
{
    const std::string devices = e.holder_is_known() ? std::string() : devices_of(e.path());
    if (devices.empty())
        return e.what();
    return fmt::format("{}: the image is in use by the live device {}; name that instead of the image", e.attempt(),
                       devices);
}

} // namespace

int main(int argc, char **argv)
{
    open_standard_streams();
    CLI::App app{"Maintain a QCOW2 image, also while it is attached: facts, check, repair, snapshots, size",
                 "qcow2-maint"};
    app.footer("Example:\n  qcow2-maint snapshot create vm1 before-upgrade\n\n"
               "Exit status: 0 done, 1 refused or failed with nothing changed, 2 usage;\n"
               "of check: 0 clean, 1 internal, 2 corrupt, 3 leaks, 63 not supported.");
    app.require_subcommand(1);
    Action action;
    add_info(app, action);
    add_check(app, action);
    add_snapshot(app, action);
    add_resize(app, action);
    add_attach(app, action);
    add_detach(app, action);
    add_resume(app, action);
    try {
        app.parse(argc, argv);
        const int status = action();
        if (std::fflush(stdout) != 0 || std::ferror(stdout))
            liveblk::fail_errno("write to standard output");
        return status;
    } catch (const CLI::ParseError &e) {
        return usage(app, e);
    } catch (const liveblk::qcow2::ImageInUse &e) {
        fmt::print(stderr, "qcow2-maint: {}\n", with_holder(e));
        return status_failed;
    } catch (const std::bad_alloc &) {
        fmt::print(stderr, "qcow2-maint: work on '{}': there is not enough memory\n", image_of(app));
        return status_failed;
    } catch (const std::exception &e) {
        fmt::print(stderr, "qcow2-maint: {}\n", e.what());
        return status_failed;
    }
}
