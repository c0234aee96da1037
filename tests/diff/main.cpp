// SPDX-License-Identifier: GPL-2.0-only
// blk-difftest: random operations on a block device, compared with a plain file.
#include "base/command.hpp"
#include "difftest.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <iostream>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace liveblk::test;

constexpr int exit_mismatch = 1;

volatile std::sig_atomic_t interrupted = 0;

struct Arguments {
    RunOptions run;
    std::string device;
    std::string model;
    std::string initial = "zeros";
    std::string discard = "loose";
    std::string trace;
    std::vector<std::string> tolerated;
    std::vector<unsigned> mix;
    std::optional<liveblk::Argument> seed;
    std::optional<liveblk::Argument> ops;
    std::optional<liveblk::Argument> seconds;
};

void add_workload_options(liveblk::Command command, Arguments &a)
{
    auto &w = a.run.workload;
    a.seed = command.add("--seed", w.seed, "repeats a run (default: random)");
    command.add("--cluster-size", w.cluster_size, "what operations are aligned to now and then")
        .size()
        .within(512, 1 << 30);
    command.add("--block-size", w.block_size, "what all operations are aligned to")
        .size()
        .one_of({"512", "1024", "2048", "4096"});
    command.add("--min-size", w.min_size, "smallest operation").size();
    command.add("--max-size,--size", w.max_size, "largest operation").size();
    command.add("--from", w.area.offset, "leave everything before this offset alone").size();
    command.add("--length", w.area.length, "and everything after so many bytes from there").size();
    command.add("--windows", w.windows, "number of places to work in (0: everywhere)");
    command.add("--window-size", w.window_size, "size of each").size();
    command.add("--hot-spots", w.hot_spots, "number of places that are hit often");
    command.add("--copies", w.mix.back(), "share of copies, beside those of --mix");
    command.add("--emulate", w.emulate_percent, "of copies, the share in percent by reading and writing")
        .within(0, 100);
    command.add("--mix", a.mix, "shares of read,write,discard,zero,flush").separated_by(',').count(5);
}

void add_run_options(liveblk::Command command, Arguments &a)
{
    a.ops = command.add("--ops", a.run.ops, "operations of all jobs together; 0 only compares");
    a.seconds = command.add("--seconds", a.run.seconds, "stop after this time");
    command.add("--jobs", a.run.jobs, "threads").within(1, 64);
    command.add("--depth", a.run.depth, "largest io_uring depth of a job").within(1, 256);
    command.choice("--engine", a.run.engine,
                   {{"mixed", Engine::mixed}, {"sync", Engine::sync}, {"uring", Engine::uring}},
                   "mixed, sync or uring");
    command.add("--phase-ops", a.run.phase_ops, "operations of a job between changes of the way of access").positive();
    command.add("--buffered", a.run.buffered_percent, "share of phases through the page cache").within(0, 100);
    command.add("--discard", a.discard, "zeros: discarded clusters must read as zeros; loose: old or zeros")
        .one_of({"zeros", "loose"});
    command.add("--tolerate", a.tolerated, "errors that operations may end with")
        .one_of({"EIO", "ENOSPC"})
        .separated_by(',');
    command.flag("--strict", a.run.strict, "an operation that is not supported is a failure");
    command.add("--initial", a.initial, "what a new model starts from").one_of({"zeros", "read"});
    command.add("--trace", a.trace, "write all operations to this file");
}

void finish_options(Arguments &a)
{
    if (!a.seed->given())
        a.run.workload.seed = std::random_device{}();
    if (a.seconds->given() && !a.ops->given())
        a.run.ops = UINT64_MAX;
    a.run.discard_zeros = a.discard == "zeros";
    for (const std::string &name : a.tolerated)
        a.run.tolerated.insert(name == "EIO" ? EIO : ENOSPC);
    for (std::size_t i = 0; i < a.mix.size(); i++)
        a.run.workload.mix.at(i) = a.mix[i];
}

// The area is what lies between --from and --length, or the end of the device.
void set_area(WorkloadOptions &w)
{
    if (w.area.offset % 512 || w.area.length % 512 || w.area.offset >= w.device_size)
        throw liveblk::UsageError("--from and --length must be multiples of 512 within the device");
    const std::uint64_t rest = w.device_size - w.area.offset;
    w.area.length = w.area.length ? std::min(w.area.length, rest) : rest;
}

void validate(const WorkloadOptions &w)
{
    const auto whole = [](std::uint64_t size) { return size && size % 512 == 0; };
    if (!whole(w.min_size) || !whole(w.max_size) || !whole(w.window_size) || !whole(w.cluster_size))
        throw liveblk::UsageError("sizes must be multiples of 512");
    if (w.min_size > w.max_size)
        throw liveblk::UsageError("--min-size is larger than --max-size");
    if (w.device_size < 512 || w.device_size % 512)
        throw liveblk::UsageError(fmt::format("a device of {} bytes cannot be tested", w.device_size));
    unsigned sum = 0;
    for (const unsigned share : w.mix)
        sum += share;
    if (!sum)
        throw liveblk::UsageError("--mix has no operation in it");
}

void catch_signals()
{
    struct sigaction action {};
    action.sa_handler = [](int) { interrupted = 1; };
    for (const int number : {SIGINT, SIGTERM})
        ::sigaction(number, &action, nullptr);
}

int run(Arguments &a)
{
    BlockTarget target(a.device);
    if (a.run.workload.mix.back())
        target.enable_copies();
    a.run.workload.device_size = target.size();
    validate(a.run.workload);
    set_area(a.run.workload);
    Model model(a.model, target.size());
    Difftest test(a.run, target, model, [] { return interrupted != 0; });
    if (model.created() && a.initial == "read")
        test.adopt_content();
    const bool equal = test.run();
    if (!a.trace.empty())
        test.write_trace(a.trace);
    (equal ? std::cout : std::cerr) << "blk-difftest: " << a.device << ": " << test.report() << std::endl;
    return equal ? 0 : exit_mismatch;
}

} // namespace

int main(int argc, char **argv)
{
    liveblk::Program program("blk-difftest", "Random operations on a block device, each compared with a plain file.");
    liveblk::Command command = program.root();
    Arguments arguments;
    command.add("DEVICE", arguments.device, "block device, or regular file").required();
    command.add("--model", arguments.model, "raw file with the right content; made when missing").required();
    add_workload_options(command, arguments);
    add_run_options(command, arguments);
    command.action([&] {
        finish_options(arguments);
        catch_signals();
        return run(arguments);
    });
    return program.run(argc, argv);
}
