// SPDX-License-Identifier: GPL-2.0-only
// Random damage to the metadata of valid images. What comes of it is anybody's guess; that the
// kernel lives, says little, and keeps its hands off a refused image is not.
#include "device.hpp"
#include "exercise.hpp"
#include "kernel_log.hpp"
#include "run.hpp"
#include "watchdog.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <fmt/core.h>
#include <fstream>

namespace hostile {

using namespace format;

namespace {

constexpr const char *device_name = "mutated";
constexpr std::size_t most_lines = 100;
// A refcount of a cluster far behind the end is no crime, and may lead the allocator there. What one
// refcount block of 1-bit refcounts covers with 64 KiB clusters.
constexpr std::uint64_t longest_leak = 64ULL << 30;
constexpr std::uint64_t largest_guest = 64ULL << 20;

Geometry random_geometry(Random &random, bool block_device)
{
    Geometry g;
    g.version = random.chance(25) ? 2 : 3;
    static constexpr std::array<unsigned, 6> bits{12, 12, 12, 12, 13, 16};
    g.cluster_bits = bits[random.below(bits.size())];
    g.snapshot = random.chance(30);
    g.block_device = block_device;
    if (g.version == 3 && random.chance(40))
        g.refcount_order = static_cast<unsigned>(g.snapshot ? 1 + random.below(6) : random.below(7));
    if (g.version == 3 && random.chance(20)) {
        g.cluster_bits = 14;
        g.extended = true;
    }
    return g;
}

// Values at the edges of what a check would look at.
std::uint64_t edge_value(Random &random, const Image &image, std::uint64_t old)
{
    switch (random.below(9)) {
    case 0:
        return 0;
    case 1:
        return ~0ULL;
    case 2:
        return old ^ 1ULL << random.below(64);
    case 3:
        return old + 1 - 2 * random.below(2);
    case 4:
        return image.end() - image.cluster() + image.cluster() * random.below(3);
    case 5:
        return random.below(image.end() / image.cluster()) * image.cluster() | (random.chance(50) ? copied : 0);
    case 6:
        return random.next();
    case 7:
        return 1ULL << random.below(64);
    default:
        return old + image.cluster() - 2 * image.cluster() * random.below(2);
    }
}

// The tables, weighted so that each is hit as often as the others however long it is.
std::uint64_t random_place(Random &random, const Image &image)
{
    std::uint64_t entries = std::min<std::uint64_t>(image.l2_entries(), 48);
    switch (random.below(6)) {
    case 0:
        return random.below(image.geometry().version == 2 ? 9 : 14) * 8;
    case 1:
        return image.reftable() + random.below(4) * 8;
    case 2:
        return image.refblock() + random.below(64) * 8;
    case 3:
        return image.l1() + random.below(4) * 8;
    case 4:
        return image.geometry().snapshot ? image.snapshot_table() + random.below(10) * 8
                                         : image.l2() + random.below(entries) * 8;
    default:
        return image.l2(random.below(image.l2_tables())) + random.below(entries) * 8;
    }
}

void mutate(Random &random, Image &image)
{
    std::uint64_t changes = 1 + random.below(4);
    for (std::uint64_t n = 0; n < changes; n++) {
        std::uint64_t at = random_place(random, image);
        switch (random.below(4)) {
        case 0:
            image.put8(at + random.below(8), random.next());
            break;
        case 1:
            image.put32(at, edge_value(random, image, image.get<std::uint32_t>(at)));
            break;
        default:
            image.put64(at, edge_value(random, image, image.get<std::uint64_t>(at)));
        }
    }
    if (random.chance(5))
        image.truncate(random.below(image.end()));
}

// A table of the size that the header asks for, lest every change of it be refused.
std::uint64_t table_sectors(const Image &image)
{
    if (image.end() < h_v2_end)
        return image.size() / sector_size;
    auto size = image.get<std::uint64_t>(h_size);
    bool usable = size && size <= largest_guest && size % sector_size == 0;
    return (usable ? size : image.size()) / sector_size;
}

class Mutation {
public:
    Mutation(std::uint64_t seed, const Place &place, KernelLog &log)
        : random_(seed), place_(place), log_(log), image_(random_geometry(random_, place.on_block_device()))
    {
        mutate(random_, image_);
    }

    void run()
    {
        log_.skip();
        begin_step("placing a mutated image");
        PlacedImage placed(place_, image_.bytes);
        DmDevice cleanup(device_name);
        begin_step("attaching a mutated image");
        std::uint64_t sectors = table_sectors(image_);
        attached_ = dm_create(device_name, sectors, "qcow2", placed.path(), false).ok();
        if (attached_)
            exercise(placed, sectors);
        else if (!placed.holds(image_.bytes))
            problem("refused, and the image has changed");
        look_at_log();
    }

    bool attached() const { return attached_; }
    const std::vector<std::string> &problems() const { return problems_; }
    const std::vector<std::string> &lines() const { return lines_; }

private:
    void exercise(const PlacedImage &placed, std::uint64_t sectors)
    {
        View view;
        view.bytes.resize(sectors * sector_size);
        view.want.assign(sectors, Want::any);
        begin_step("using a mutated image");
        Exercise exercise(dm_path(device_name), image_.cluster(), std::move(view),
                          {.must_write = false, .aliases = true}, false);
        exercise.read_all();
        exercise.change_all();
        exercise.close();
        failed_reads_ = exercise.failed_reads();
        for (const std::string &p : exercise.problems())
            problem(p);
        begin_step("detaching a mutated image");
        if (!dm_remove(device_name).ok())
            problem("not removed");
        std::uint64_t limit = 4 * sectors * sector_size + image_.end() + longest_leak;
        if (placed.length_now() > limit)
            problem(fmt::format("the image has grown from {} to {} bytes", image_.end(), placed.length_now()));
    }

    void look_at_log()
    {
        lines_ = log_.take();
        for (const std::string &line : lines_)
            if (is_complaint(line))
                problem("the kernel complains: " + line);
        std::size_t count = target_lines(lines_).size();
        if (count > most_lines)
            problem(fmt::format("{} lines of log", count));
        if (count == 0 && (!attached_ || failed_reads_))
            problem("refused or failed without a line of log");
    }

    void problem(const std::string &text) { problems_.push_back(text); }

    Random random_;
    const Place &place_;
    KernelLog &log_;
    Image image_;
    bool attached_ = false;
    std::uint64_t failed_reads_ = 0;
    std::vector<std::string> problems_;
    std::vector<std::string> lines_;
};

int mutate_all(const MutateOptions &options)
{
    std::ofstream report;
    if (!options.log.empty())
        report.open(options.log);
    KernelLog log;
    std::uint64_t wrong = 0;
    std::uint64_t attached = 0;
    for (std::uint64_t n = options.first; n < options.first + options.count; n++) {
        Mutation mutation(options.seed * 0x100000001ULL + n, options.place, log);
        mutation.run();
        attached += mutation.attached();
        report << n << (mutation.attached() ? " attached\n" : " refused\n");
        for (const std::string &line : mutation.lines())
            report << "      " << line << '\n';
        report << std::flush;
        if (mutation.problems().empty())
            continue;
        wrong++;
        for (const std::string &p : mutation.problems())
            fmt::print("WRONG mutate --seed {} --first {} --count 1: {}\n", options.seed, n, p);
        for (const std::string &line : mutation.lines())
            fmt::print("      log: {}\n", line);
        std::fflush(stdout);
    }
    fmt::print("mutated images: {} (seed {}, {} attached), {} wrong\n", options.count, options.seed, attached, wrong);
    return options.count && !wrong ? 0 : 1;
}

} // namespace

int run_mutations(const MutateOptions &options)
{
    return run_watched(options.step_seconds, [&] { return mutate_all(options); });
}

} // namespace hostile
