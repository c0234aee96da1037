// SPDX-License-Identifier: GPL-2.0-only
// interposer-cycler ORIGINAL MOUNTPOINT COUNT SEED META COW0 COW1 COW2: attaches and detaches each kind of target COUNT
// times at random moments, as blk-interpose does, but without a process for each step, which takes most of the time
// where CPUs are emulated. Prints a line of JSON for each transition. META and COW* are devices that are overwritten.
#include "base/error.hpp"
#include "dm/device.hpp"
#include "interposition.hpp"
#include "open_or_fail.hpp"
#include "original.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <thread>
#include <vector>

using namespace liveblk;
using namespace liveblk::interpose;

namespace {

constexpr std::size_t cleared_bytes = 64 << 10;

struct Place {
    std::string original;
    std::string mountpoint;
    std::string meta;
    std::vector<std::string> cows;
    std::uint64_t sectors;
    std::mt19937 random;
};

// A file system that stands still.
class Frozen {
public:
    explicit Frozen(const std::string &mountpoint) : fd_(open_or_fail(mountpoint, O_RDONLY | O_DIRECTORY))
    {
        if (::ioctl(fd_.get(), FIFREEZE, 0) != 0)
            fail_errno(fmt::format("freeze '{}'", mountpoint));
    }
    Frozen(const Frozen &) = delete;
    Frozen &operator=(const Frozen &) = delete;
    ~Frozen() { ::ioctl(fd_.get(), FITHAW, 0); }

private:
    UniqueFd fd_;
};

class Suspended {
public:
    explicit Suspended(const dm::Device &device) : device_(device) { device_.suspend(); }
    Suspended(const Suspended &) = delete;
    Suspended &operator=(const Suspended &) = delete;
    ~Suspended() { device_.try_resume(udev_); }

private:
    dm::Device device_;
    dm::UdevWork udev_;
};

// A target finds nothing of the time before.
void clear(const std::string &device)
{
    const UniqueFd fd = open_or_fail(device, O_RDWR);
    const std::vector<char> zeros(cleared_bytes);
    if (::pwrite(fd.get(), zeros.data(), zeros.size(), 0) != static_cast<ssize_t>(zeros.size()) ||
        ::fsync(fd.get()) != 0)
        fail_errno(fmt::format("clear '{}'", device));
}

void report(const Times &times)
{
    fmt::print("{{\"parked-ns\": {}, \"frozen-ns\": {}}}\n", times.parked, times.frozen);
}

void moment(Place &place)
{
    std::this_thread::sleep_for(std::chrono::milliseconds(place.random() % 400));
}

void cycle(Place &place, const std::string &type, const std::string &before, const std::string &after)
{
    {
        Interposition interposition(place.original);
        const dm::Device device = interposition.create_device(
            "cyc",
            {.start = 0, .length = place.sectors, .type = type, .params = before + interposition.lower() + after});
        report(interposition.attach(device));
    }
    moment(place);
    report(remove_interposition("cyc", {}, true).times);
    moment(place);
}

dm::Target snapshot_of(const Place &place, const std::string &lower, std::size_t number)
{
    return {.start = 0,
            .length = place.sectors,
            .type = "snapshot",
            .params = fmt::format("{} {} P 16", lower, place.cows.at(number))};
}

std::string name_of(std::size_t number)
{
    return fmt::format("cyc{}", number);
}

// Beside the first, while the file system stands still.
void more_snapshots(const Place &place, const dm::Device &origin, const std::string &lower, std::size_t count)
{
    const Frozen frozen(place.mountpoint);
    const Suspended suspended(origin);
    for (std::size_t i = 1; i < count; i++)
        dm::Device::create(name_of(i), snapshot_of(place, lower, i), false);
}

// They go before their origin, in the same way.
void fewer_snapshots(const Place &place, const dm::Device &origin, std::size_t count)
{
    const Frozen frozen(place.mountpoint);
    const Suspended suspended(origin);
    for (std::size_t i = 1; i < count; i++)
        if (const auto found = dm::Device::find(name_of(i)))
            found->remove();
}

void cycle_snapshots(Place &place, std::size_t count)
{
    for (std::size_t i = 0; i < count; i++)
        clear(place.cows.at(i));
    std::string lower;
    {
        Interposition interposition(place.original);
        lower = interposition.lower();
        interposition.create_device("cyc", snapshot_of(place, lower, 0));
        report(interposition.attach(interposition.create_device(
            "cyc-origin", {.start = 0, .length = place.sectors, .type = "snapshot-origin", .params = lower})));
    }
    const auto origin = dm::Device::find("cyc-origin");
    if (!origin)
        fail("find 'cyc-origin'");
    if (count > 1)
        more_snapshots(place, *origin, lower, count);
    moment(place);
    if (count > 1)
        fewer_snapshots(place, *origin, count);
    report(remove_interposition("cyc-origin", {"cyc"}, true).times);
    moment(place);
}

void each_target(Place &place)
{
    cycle(place, "linear", "", " 0");
    cycle(place, "delay", "", " 0 5");
    cycle(place, "flakey", "", " 0 3600 0");
    clear(place.meta);
    cycle(place, "era", place.meta + " ", " 128");
    cycle(place, "snapshot-origin", "", "");
    cycle_snapshots(place, 1);
    cycle_snapshots(place, 3);
}

} // namespace

int main(int argc, char **argv)
{
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    try {
        if (arguments.size() != 8)
            fail("usage: interposer-cycler ORIGINAL MOUNTPOINT COUNT SEED META COW0 COW1 COW2");
        Place place = {.original = arguments[0],
                       .mountpoint = arguments[1],
                       .meta = arguments[4],
                       .cows = {arguments.begin() + 5, arguments.end()},
                       .sectors = sectors_of(arguments[0]),
                       .random = std::mt19937(static_cast<unsigned>(std::stoul(arguments[3])))};
        for (unsigned long left = std::stoul(arguments[2]); left > 0; left--) {
            each_target(place);
            std::fflush(stdout);
        }
        return 0;
    } catch (const std::exception &e) {
        std::fprintf(stderr, "interposer-cycler: %s\n", e.what());
        return 1;
    }
}
