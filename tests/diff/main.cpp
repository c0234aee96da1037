// SPDX-License-Identifier: GPL-2.0-only
// blk-difftest: random operations on a block device, compared with a plain file.
#include "difftest.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <iostream>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace liveblk::test;

constexpr int exit_mismatch = 1;
constexpr int exit_usage = 2;

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
};

void add_workload_options(CLI::App &app, Arguments &a)
{
    auto &w = a.run.workload;
    app.add_option("--seed", w.seed, "repeats a run (default: random)");
    app.add_option("--cluster-size", w.cluster_size, "what operations are aligned to now and then")
        ->transform(CLI::AsSizeValue(false))
        ->check(CLI::Range(512, 1 << 30));
    app.add_option("--block-size", w.block_size, "what all operations are aligned to")
        ->transform(CLI::AsSizeValue(false))
        ->check(CLI::IsMember({512, 1024, 2048, 4096}));
    app.add_option("--min-size", w.min_size, "smallest operation")->transform(CLI::AsSizeValue(false));
    app.add_option("--max-size,--size", w.max_size, "largest operation")->transform(CLI::AsSizeValue(false));
    app.add_option("--from", w.area.offset, "leave everything before this offset alone")
        ->transform(CLI::AsSizeValue(false));
    app.add_option("--length", w.area.length, "and everything after so many bytes from there")
        ->transform(CLI::AsSizeValue(false));
    app.add_option("--windows", w.windows, "number of places to work in (0: everywhere)");
    app.add_option("--window-size", w.window_size, "size of each")->transform(CLI::AsSizeValue(false));
    app.add_option("--hot-spots", w.hot_spots, "number of places that are hit often");
    app.add_option("--copies", w.mix.back(), "share of copies, beside those of --mix");
    app.add_option("--emulate", w.emulate_percent, "of copies, the share in percent by reading and writing")
        ->check(CLI::Range(0, 100));
    app.add_option("--mix", a.mix, "shares of read,write,discard,zero,flush")->delimiter(',')->expected(5);
}

void add_run_options(CLI::App &app, Arguments &a)
{
    const std::map<std::string, Engine> engines{
        {"mixed", Engine::mixed}, {"sync", Engine::sync}, {"uring", Engine::uring}};
    app.add_option("--ops", a.run.ops, "operations of all jobs together; 0 only compares");
    app.add_option("--seconds", a.run.seconds, "stop after this time");
    app.add_option("--jobs", a.run.jobs, "threads")->check(CLI::Range(1, 64));
    app.add_option("--depth", a.run.depth, "largest io_uring depth of a job")->check(CLI::Range(1, 256));
    app.add_option("--engine", a.run.engine, "mixed, sync or uring")->transform(CLI::CheckedTransformer(engines));
    app.add_option("--phase-ops", a.run.phase_ops, "operations of a job between changes of the way of access")
        ->check(CLI::PositiveNumber);
    app.add_option("--buffered", a.run.buffered_percent, "share of phases through the page cache")
        ->check(CLI::Range(0, 100));
    app.add_option("--discard", a.discard, "zeros: discarded clusters must read as zeros; loose: old or zeros")
        ->check(CLI::IsMember({"zeros", "loose"}));
    app.add_option("--tolerate", a.tolerated, "errors that operations may end with")
        ->check(CLI::IsMember({"EIO", "ENOSPC"}))
        ->delimiter(',');
    app.add_flag("--strict", a.run.strict, "an operation that is not supported is a failure");
    app.add_option("--initial", a.initial, "what a new model starts from")->check(CLI::IsMember({"zeros", "read"}));
    app.add_option("--trace", a.trace, "write all operations to this file");
}

void finish_options(Arguments &a, const CLI::App &app)
{
    if (!app.count("--seed"))
        a.run.workload.seed = std::random_device{}();
    if (app.count("--seconds") && !app.count("--ops"))
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
        throw std::invalid_argument("--from and --length must be multiples of 512 within the device");
    const std::uint64_t rest = w.device_size - w.area.offset;
    w.area.length = w.area.length ? std::min(w.area.length, rest) : rest;
}

void validate(const WorkloadOptions &w)
{
    const auto whole = [](std::uint64_t size) { return size && size % 512 == 0; };
    if (!whole(w.min_size) || !whole(w.max_size) || !whole(w.window_size) || !whole(w.cluster_size))
        throw std::invalid_argument("sizes must be multiples of 512");
    if (w.min_size > w.max_size)
        throw std::invalid_argument("--min-size is larger than --max-size");
    if (w.device_size < 512 || w.device_size % 512)
        throw std::invalid_argument(fmt::format("a device of {} bytes cannot be tested", w.device_size));
    unsigned sum = 0;
    for (const unsigned share : w.mix)
        sum += share;
    if (!sum)
        throw std::invalid_argument("--mix has no operation in it");
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
    CLI::App app{"Random operations on a block device, each compared with a plain file.", "blk-difftest"};
    Arguments arguments;
    app.add_option("DEVICE", arguments.device, "block device, or regular file")->required();
    app.add_option("--model", arguments.model, "raw file with the right content; made when missing")->required();
    add_workload_options(app, arguments);
    add_run_options(app, arguments);
    try {
        app.parse(argc, argv);
        finish_options(arguments, app);
        catch_signals();
        return run(arguments);
    } catch (const CLI::ParseError &error) {
        return app.exit(error) ? exit_usage : 0;
    } catch (const std::invalid_argument &error) {
        std::cerr << "blk-difftest: " << error.what() << std::endl;
        return exit_usage;
    } catch (const std::exception &error) {
        std::cerr << "blk-difftest: " << error.what() << std::endl;
        return exit_mismatch;
    }
}
