// SPDX-License-Identifier: GPL-2.0-only
// qcow2-hostile: makes broken QCOW2 images on purpose, and sees what dm-qcow2 does with them.
#include "base/command.hpp"
#include "run.hpp"

#include <fmt/core.h>

namespace hostile {

namespace {

void add_place(liveblk::Command command, Place &place)
{
    command.add("--dir", place.directory, "where the image file goes").required();
    command.add("--device", place.block_device, "put images on this block device instead; it is overwritten");
}

void list_cases()
{
    const Catalogue catalogue = make_catalogue(false);
    for (const Case &c : catalogue.cases())
        fmt::print("{:<50} {}\n", c.name, to_string(c.expect));
}

void make_case(const std::string &name, const std::string &file, bool block_device)
{
    const Catalogue catalogue = make_catalogue(block_device);
    const Case &c = catalogue.find(name);
    Image image(c.geometry);
    c.make(image);
    write_sparse(file, image.bytes);
}

// The writer's own images: of any case, so that a script can compare them with what QEMU reads.
void make_view(const std::string &name, const std::string &file)
{
    const Catalogue catalogue = make_catalogue(false);
    const Case &c = catalogue.find(name);
    Image image(c.geometry);
    c.make(image);
    write_sparse(file, image.view.bytes);
}

// A command with the name of a case and a file to write.
liveblk::Command add_maker(liveblk::Command root, const char *command, const char *text, std::string &name,
                           std::string &file)
{
    liveblk::Command maker = root.command(command, text);
    maker.add("case", name).required();
    maker.add("file", file).required();
    return maker;
}

void add_run(liveblk::Command root, RunOptions &run)
{
    liveblk::Command command = root.command("run", "attach each case and compare (as root, in a VM)");
    add_place(command, run.place);
    command.add("--only", run.only, "only names that match this expression");
    command.add("--every", run.every, "of those, one in so many").positive();
    command.add("--first", run.first, "with --every: the first one, from 0 on");
    command.add("--log", run.log, "write what came of each case there");
    command.add("--step-seconds", run.step_seconds, "a step that takes longer hangs");
    command.action([&run] { return run_cases(run); });
}

void add_mutate(liveblk::Command root, MutateOptions &mutate)
{
    liveblk::Command command = root.command("mutate", "attach images with random damage (as root, in a VM)");
    add_place(command, mutate.place);
    command.add("--seed", mutate.seed, "gives the same images again");
    command.add("--first", mutate.first, "number of the first image");
    command.add("--count", mutate.count, "how many images");
    command.add("--log", mutate.log, "write what came of each image there");
    command.add("--step-seconds", mutate.step_seconds, "a step that takes longer hangs");
    command.action([&mutate] { return run_mutations(mutate); });
}

} // namespace

} // namespace hostile

int main(int argc, char **argv)
{
    using namespace hostile;
    liveblk::Program program("qcow2-hostile",
                             "Makes QCOW2 images that are broken in known ways, and tests dm-qcow2 with them");
    liveblk::Command root = program.root();
    root.needs_command();
    std::string name;
    std::string file;
    bool block_device = false;
    RunOptions run;
    MutateOptions mutate;
    root.command("list", "name the cases and what is expected of each").action(list_cases);
    liveblk::Command make = add_maker(root, "make", "write the image of a case", name, file);
    make.flag("--block-device", block_device, "as it is made for a block device");
    make.action([&] { make_case(name, file, block_device); });
    add_maker(root, "view", "write what the guest of a case must see, raw", name, file).action([&] {
        make_view(name, file);
    });
    add_run(root, run);
    add_mutate(root, mutate);
    return program.run(argc, argv);
}
