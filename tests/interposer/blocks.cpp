// SPDX-License-Identifier: GPL-2.0-only
// Extents of a device that are known.
//
// interposer-blocks now: the monotonic clock, in nanoseconds.
//
// interposer-blocks write DEVICE LOG: writes extents at random, in several threads, until SIGTERM; then LOG has for
// each of them when it began and ended, its offset and its length.
//
// interposer-blocks check LOG CHANGES FROM1 FROM2 TO1 TO2: whether CHANGES, of `blk-interpose changes --json`, has each
// extent written from some moment between FROM1 and FROM2 to one between TO1 and TO2, rounded to its granule, and
// nothing else. What was under way at these moments may be in it or not.
//
// interposer-blocks longest LOG FROM TO: the longest write that was under way at some moment between, in milliseconds.
#include "base/error.hpp"
#include "base/unique_fd.hpp"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

using namespace liveblk;

namespace {

constexpr unsigned threads = 3;
constexpr std::uint64_t sector = 512;
constexpr std::uint64_t longest = 128 * sector;

std::atomic<bool> stopped = false;

struct Extent {
    std::uint64_t began = 0, ended = 0;
    std::uint64_t offset = 0, length = 0;
};

std::uint64_t now()
{
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
            .count());
}

// An error ends the program: there is to be none.
std::vector<Extent> write_extents(int fd, std::uint64_t size, std::uint64_t seed)
{
    std::mt19937_64 random(seed);
    const std::unique_ptr<void, decltype(&std::free)> buffer(std::aligned_alloc(4096, longest), std::free);
    std::vector<Extent> done;
    while (!stopped) {
        Extent extent;
        extent.length = (random() % (longest / sector) + 1) * sector;
        extent.offset = random() % ((size - extent.length) / sector) * sector;
        extent.began = now();
        if (::pwrite(fd, buffer.get(), extent.length, static_cast<off_t>(extent.offset)) !=
            static_cast<ssize_t>(extent.length)) {
            std::perror("interposer-blocks: write");
            std::_Exit(1);
        }
        extent.ended = now();
        done.push_back(extent);
        std::this_thread::sleep_for(std::chrono::milliseconds(random() % 20));
    }
    return done;
}

void write_device(const std::string &device, const std::string &log)
{
    const UniqueFd fd(::open(device.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC));
    std::uint64_t size = 0;
    if (!fd || ::ioctl(fd.get(), BLKGETSIZE64, &size) != 0)
        fail_errno(fmt::format("open '{}'", device));
    const char *given = std::getenv("LIVEBLK_SEED");
    const std::uint64_t seed = given ? std::strtoull(given, nullptr, 0) : std::random_device()();
    fmt::print("seed {}\n", seed);
    std::signal(SIGTERM, [](int) { stopped = true; });
    std::vector<std::vector<Extent>> extents(threads);
    {
        std::vector<std::jthread> running;
        for (unsigned i = 0; i < threads; i++)
            running.emplace_back([&, i] { extents[i] = write_extents(fd.get(), size, seed + i); });
    }
    std::ofstream file(log);
    for (const auto &list : extents)
        for (const Extent &extent : list)
            file << fmt::format("{} {} {} {}\n", extent.began, extent.ended, extent.offset, extent.length);
    if (!file.flush())
        fail("write '{}'", log);
}

struct Interval {
    std::uint64_t from1, from2, to1, to2;
};

void add_granules(std::set<std::uint64_t> &granules, std::uint64_t offset, std::uint64_t length, std::uint64_t granule)
{
    for (std::uint64_t i = offset / granule; i <= (offset + length - 1) / granule; i++)
        granules.insert(i);
}

void check(const std::string &log, const std::string &changes_path, const Interval &interval)
{
    const auto changes = nlohmann::json::parse(std::ifstream(changes_path));
    const std::uint64_t granule = changes.at("granule");
    std::set<std::uint64_t> must, may, recorded;
    for (const auto &range : changes.at("changed"))
        add_granules(recorded, range.at("offset"), range.at("length"), granule);
    std::ifstream file(log);
    for (Extent e; file >> e.began >> e.ended >> e.offset >> e.length;) {
        if (e.ended >= interval.from1 && e.began <= interval.to2)
            add_granules(may, e.offset, e.length, granule);
        if (e.began >= interval.from2 && e.ended <= interval.to1)
            add_granules(must, e.offset, e.length, granule);
    }
    for (const std::uint64_t i : must)
        if (!recorded.contains(i))
            fail("compare: the granule at {} was written, and is not recorded", i * granule);
    for (const std::uint64_t i : recorded)
        if (!may.contains(i))
            fail("compare: the granule at {} was not written, and is recorded", i * granule);
    if (must.empty())
        fail("compare: nothing was written that had to be recorded");
    fmt::print("{} granules recorded: {} had to be, {} might have been\n", recorded.size(), must.size(), may.size());
}

void print_longest(const std::string &log, std::uint64_t from, std::uint64_t to)
{
    std::uint64_t longest_write = 0;
    std::ifstream file(log);
    for (Extent e; file >> e.began >> e.ended >> e.offset >> e.length;)
        if (e.ended >= from && e.began <= to)
            longest_write = std::max(longest_write, e.ended - e.began);
    fmt::print("{:.1f}\n", static_cast<double>(longest_write) / 1e6);
}

} // namespace

int main(int argc, char **argv)
{
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    const auto number = [&](std::size_t i) { return static_cast<std::uint64_t>(std::stoull(arguments[i])); };
    try {
        if (arguments.size() == 1 && arguments[0] == "now")
            fmt::print("{}\n", now());
        else if (arguments.size() == 3 && arguments[0] == "write")
            write_device(arguments[1], arguments[2]);
        else if (arguments.size() == 7 && arguments[0] == "check")
            check(arguments[1], arguments[2], {number(3), number(4), number(5), number(6)});
        else if (arguments.size() == 4 && arguments[0] == "longest")
            print_longest(arguments[1], number(2), number(3));
        else
            fail("usage: interposer-blocks now | write DEVICE LOG | check LOG CHANGES FROM1 FROM2 TO1 TO2 | "
                 "longest LOG FROM TO");
        return 0;
    } catch (const std::exception &e) {
        std::fprintf(stderr, "interposer-blocks: %s\n", e.what());
        return 1;
    }
}
