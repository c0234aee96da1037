// SPDX-License-Identifier: GPL-2.0-only
// Writes to a device or into a file system above dm-log-writes, and records what was promised when.
#include "base/command.hpp"
#include "block_workload.hpp"
#include "file_workload.hpp"

#include <fmt/core.h>

#include <iostream>

namespace {

using namespace liveblk;

void add_block_options(liveblk::Command command, crash::BlockOptions &options)
{
    command.add("device", options.device, "block device to write to").required();
    command.add("--ops", options.ops, "number of operations");
    command.add("--threads", options.threads, "concurrent writers").within(1, 64);
    command.add("--cluster-size", options.cluster_size, "of the image, in bytes").positive();
    command.add("--span", options.span, "use only so many bytes of the device");
    command.add("--largest", options.largest, "bytes of the largest request").within(4096, 1 << 24);
    command.add("--flush-percent", options.flush_percent, "share of flushes");
    command.add("--fua-percent", options.fua_percent, "share of FUA writes");
    command.flag("--only-fua", options.only_fua, "no flushes, also not at the end");
    command.add("--discard-percent", options.discard_percent, "share of discards");
    command.add("--zero-percent", options.zero_percent, "share of write-zeroes");
    command.add("--burst-percent", options.burst_percent, "share of allocation bursts");
    Argument snapshots = command.add("--snapshots", options.snapshots, "internal snapshots to take on the way");
    Argument pauses = command.add("--pauses", options.pauses, "suspends before those in which nothing is changed");
    const Argument name = command.add("--dm-name", options.dm_name, "name of the device, for suspending it");
    const Argument image = command.add("--image", options.image, "image below the device");
    snapshots.needs(name).needs(image);
    pauses.needs(name).needs(image);
}

void add_file_options(liveblk::Command command, crash::FileOptions &options)
{
    command.add("directory", options.directory, "where to write files").required();
    command.add("--files", options.files, "number of times that a file is written or grows");
    command.add("--largest", options.largest, "most bytes written at once").positive();
    command.add("--fsync-percent", options.fsync_percent, "share of writes that end with fsync");
}

void keep(const crash::History &made, const std::string &file, std::uint64_t seed)
{
    made.save(file);
    fmt::print("workload: seed {}, {} events\n", seed, made.events.size());
}

} // namespace

int main(int argc, char **argv)
{
    Program program("crash-workload", "Makes the writes whose crashes crash-replay simulates.");
    Command root = program.root();
    root.needs_command();
    std::string history, log_device;
    std::uint64_t seed = 1;
    root.add("--history", history, "file to record into").required();
    root.add("--log-device", log_device, "name of the dm-log-writes device").required();
    root.add("--seed", seed, "choice of everything");
    crash::BlockOptions block;
    crash::FileOptions files;
    Command block_command = root.command("block", "write to a block device");
    add_block_options(block_command, block);
    block_command.action([&] {
        block.seed = seed;
        block.log_device = log_device;
        keep(crash::BlockWorkload(block).run(), history, seed);
    });
    Command file_command = root.command("files", "write files into a mounted file system");
    add_file_options(file_command, files);
    file_command.action([&] {
        files.seed = seed;
        files.log_device = log_device;
        keep(crash::run_file_workload(files), history, seed);
    });
    return program.run(argc, argv);
}
