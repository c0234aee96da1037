// SPDX-License-Identifier: GPL-2.0-only
// Writes to a device or into a file system above dm-log-writes, and records what was promised when.
#include "block_workload.hpp"
#include "file_workload.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <iostream>

namespace {

using namespace liveblk;

void add_block_options(CLI::App &app, crash::BlockOptions &options)
{
    app.add_option("device", options.device, "block device to write to")->required();
    app.add_option("--ops", options.ops, "number of operations");
    app.add_option("--threads", options.threads, "concurrent writers")->check(CLI::Range(1, 64));
    app.add_option("--cluster-size", options.cluster_size, "of the image, in bytes")->check(CLI::PositiveNumber);
    app.add_option("--span", options.span, "use only so many bytes of the device");
    app.add_option("--largest", options.largest, "bytes of the largest request")->check(CLI::Range(4096, 1 << 24));
    app.add_option("--flush-percent", options.flush_percent, "share of flushes");
    app.add_option("--fua-percent", options.fua_percent, "share of FUA writes");
    app.add_flag("--only-fua", options.only_fua, "no flushes, also not at the end");
    app.add_option("--discard-percent", options.discard_percent, "share of discards");
    app.add_option("--zero-percent", options.zero_percent, "share of write-zeroes");
    app.add_option("--burst-percent", options.burst_percent, "share of allocation bursts");
    const auto snapshots = app.add_option("--snapshots", options.snapshots, "internal snapshots to take on the way");
    const auto name = app.add_option("--dm-name", options.dm_name, "name of the device, for suspending it");
    const auto image = app.add_option("--image", options.image, "image below the device");
    snapshots->needs(name)->needs(image);
}

void add_file_options(CLI::App &app, crash::FileOptions &options)
{
    app.add_option("directory", options.directory, "where to write files")->required();
    app.add_option("--files", options.files, "number of times that a file is written or grows");
    app.add_option("--largest", options.largest, "most bytes written at once")->check(CLI::PositiveNumber);
    app.add_option("--fsync-percent", options.fsync_percent, "share of writes that end with fsync");
}

} // namespace

int main(int argc, char **argv)
{
    CLI::App app("Makes the writes whose crashes crash-replay simulates.");
    app.require_subcommand(1);
    std::string history, log_device;
    std::uint64_t seed = 1;
    app.add_option("--history", history, "file to record into")->required();
    app.add_option("--log-device", log_device, "name of the dm-log-writes device")->required();
    app.add_option("--seed", seed, "choice of everything");
    crash::BlockOptions block;
    crash::FileOptions files;
    const auto block_command = app.add_subcommand("block", "write to a block device");
    const auto file_command = app.add_subcommand("files", "write files into a mounted file system");
    add_block_options(*block_command, block);
    add_file_options(*file_command, files);
    CLI11_PARSE(app, argc, argv);
    try {
        block.seed = files.seed = seed;
        block.log_device = files.log_device = log_device;
        const crash::History made =
            *block_command ? crash::BlockWorkload(block).run() : crash::run_file_workload(files);
        made.save(history);
        fmt::print("workload: seed {}, {} events\n", seed, made.events.size());
        return 0;
    } catch (const std::exception &error) {
        std::cerr << "crash-workload: " << error.what() << '\n';
        return 1;
    }
}
