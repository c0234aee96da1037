// SPDX-License-Identifier: GPL-2.0-only
// qcow2-hostile: makes broken QCOW2 images on purpose, and sees what dm-qcow2 does with them.
#include "run.hpp"

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <iostream>

namespace hostile {

namespace {

void add_place(CLI::App *app, Place &place)
{
    app->add_option("--dir", place.directory, "where the image file goes")->required();
    app->add_option("--device", place.block_device, "put images on this block device instead; it is overwritten");
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

int main_or_throw(int argc, char **argv)
{
    CLI::App app("Makes QCOW2 images that are broken in known ways, and tests dm-qcow2 with them");
    app.require_subcommand(1);
    std::string name;
    std::string file;
    bool block_device = false;
    RunOptions run;
    MutateOptions mutate;

    CLI::App *list = app.add_subcommand("list", "name the cases and what is expected of each");
    CLI::App *make = app.add_subcommand("make", "write the image of a case");
    make->add_option("case", name)->required();
    make->add_option("file", file)->required();
    make->add_flag("--block-device", block_device, "as it is made for a block device");
    CLI::App *view = app.add_subcommand("view", "write what the guest of a case must see, raw");
    view->add_option("case", name)->required();
    view->add_option("file", file)->required();
    CLI::App *do_run = app.add_subcommand("run", "attach each case and compare (as root, in a VM)");
    add_place(do_run, run.place);
    do_run->add_option("--only", run.only, "only names that match this expression");
    do_run->add_option("--every", run.every, "of those, one in so many")->check(CLI::PositiveNumber);
    do_run->add_option("--first", run.first, "with --every: the first one, from 0 on");
    do_run->add_option("--log", run.log, "write what came of each case there");
    do_run->add_option("--step-seconds", run.step_seconds, "a step that takes longer hangs");
    CLI::App *do_mutate = app.add_subcommand("mutate", "attach images with random damage (as root, in a VM)");
    add_place(do_mutate, mutate.place);
    do_mutate->add_option("--seed", mutate.seed, "gives the same images again");
    do_mutate->add_option("--first", mutate.first, "number of the first image");
    do_mutate->add_option("--count", mutate.count, "how many images");
    do_mutate->add_option("--log", mutate.log, "write what came of each image there");
    do_mutate->add_option("--step-seconds", mutate.step_seconds, "a step that takes longer hangs");
    CLI11_PARSE(app, argc, argv);

    if (*list)
        list_cases();
    else if (*make)
        make_case(name, file, block_device);
    else if (*view)
        make_view(name, file);
    else if (*do_run)
        return run_cases(run);
    else if (*do_mutate)
        return run_mutations(mutate);
    return 0;
}

} // namespace

} // namespace hostile

int main(int argc, char **argv)
{
    try {
        return hostile::main_or_throw(argc, argv);
    } catch (const std::exception &e) {
        std::cerr << "qcow2-hostile: " << e.what() << '\n';
        return 1;
    }
}
