// SPDX-License-Identifier: GPL-2.0-only
// Rebuilds a device from a log of dm-log-writes at many places where it might have crashed, and checks each.
#include "base/command.hpp"
#include "disk_state.hpp"
#include "history.hpp"
#include "image_check.hpp"
#include "oracle.hpp"
#include "plan.hpp"

#include <fmt/core.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <optional>

namespace {

using namespace liveblk;
using crash::Point;

struct Options {
    std::string log, base, history, keep;
    std::string sabotage = "none";
    std::uint64_t seed = 1;
    std::size_t points = 100;
    std::size_t between = 0;
    std::size_t turns = 0;
    std::optional<std::size_t> only;
    bool all = false;
    bool expect_corrupt = false;
    crash::CheckOptions check;
};

void add_options(liveblk::Command command, Options &options)
{
    command.add("--log", options.log, "log device of dm-log-writes, or a copy of it").required();
    command.add("--base", options.base, "content of the logged device before the log began").required();
    command.add("--history", options.history, "history file of crash-workload").required();
    command.add("--target", options.check.target, "device or file to rebuild on; overwritten").required();
    command.add("--seed", options.seed, "choice of points and of what is torn");
    command.add("--points", options.points, "number of points").positive();
    command.flag("--all", options.all, "every flush and FUA boundary");
    command.add("--between", options.between, "with --all: number of points between boundaries");
    command.add("--turns", options.turns,
                "only points between boundaries near where a tool had the image: so many for each window");
    command.add("--only", options.only, "check only the point of this number");
    command.flag("--raw", options.check.raw,
                 "there is no qcow2 image: the workload wrote to the logged device, or to the file on it");
    command.add("--lower-fs", options.check.lower_fs, "file system on the logged device that holds the image");
    command.add("--lower-mount", options.check.lower_mount, "where to mount it");
    command.add("--image-name", options.check.image_name, "file name of the image in it");
    command.add("--data-name", options.check.data_name, "file name of its external data file there");
    command.add("--attach", options.check.attach, "attach each image through the module, under this name");
    command.add("--guest-fs", options.check.guest_fs, "file system inside the image");
    command.add("--guest-mount", options.check.guest_mount, "where to mount it");
    command.add("--bitmaps", options.check.bitmaps, "number of its bitmaps, enabled since it was empty");
    command.add("--recheck-every", options.check.recheck_every, "points after which the detached image is checked")
        .positive();
    command.add("--keep", options.keep, "directory for the images that failed");
    command.add("--sabotage", options.sabotage, "break the device's promises, to see that it is noticed")
        .one_of({"none", "drop-data", "drop-l2", "drop-refcounts", "tear-sectors"});
    command.flag("--expect-corrupt", options.expect_corrupt, "succeed only when corruption was found");
}

bool is_stamped(std::span<const std::byte> data)
{
    return test::intact_stamp(data.first(test::sector_size)).has_value();
}

bool hits_metadata(const crash::LogEntry &entry, const crash::DiskState &state, bool refcounts)
{
    try {
        const liveblk::oracle::Reader reader(state.bytes());
        if (!reader.plain())
            return false;
        return refcounts ? reader.is_refcount_block(entry.offset) : reader.is_l2_table(entry.offset);
    } catch (const std::exception &) {
        return false; // no image there yet
    }
}

// The device loses writes of one kind, or some of them.
void sabotage(crash::DiskState &state, const Options &options)
{
    if (options.sabotage == "drop-data") {
        state.omit_writes([random = test::Random(options.seed)](const auto &, auto data, const auto &) mutable {
            return is_stamped(data) && random.percent(10);
        });
    } else if (options.sabotage == "drop-l2" || options.sabotage == "drop-refcounts") {
        state.omit_writes(
            [refcounts = options.sabotage == "drop-refcounts"](const auto &entry, auto, const auto &device) {
                return hits_metadata(entry, device, refcounts);
            });
    } else if (options.sabotage == "tear-sectors") {
        state.tear_sectors();
    }
}

class Replay {
public:
    explicit Replay(const Options &options)
        : options_(options),
          log_(options.log),
          windows_(crash::split_windows(log_.entries())),
          oracle_(crash::History::load(options.history)),
          state_(options.base, log_, options.seed),
          check_(options.check)
    {
        plan_ = options.turns ? crash::plan_turns(windows_, options.seed, options.turns)
                : options.all ? crash::plan_all(windows_, options.seed, options.between)
                              : crash::plan_points(windows_, options.seed, options.points);
        sabotage(state_, options);
    }

    void run()
    {
        fmt::print("log: {} entries, {} windows, {} points, seed {}\n", log_.entries().size(), windows_.size(),
                   plan_.size(), options_.seed);
        for (std::size_t w = 0; w < windows_.size(); w++)
            run_window(w);
    }

    std::size_t tried() const { return tried_; }
    std::size_t corrupt() const { return corrupt_; }
    std::uint64_t omitted() const { return state_.omitted(); }
    std::size_t good_bitmaps() const { return check_.good_bitmaps(); }

private:
    void run_window(std::size_t w)
    {
        const crash::Window &window = windows_[w];
        for (std::size_t k = 0; k < window.immediate.size(); k++) {
            try_points(w, Point::Kind::torn_fua, k, k ? window.immediate_marks[k - 1] : window.mark_before);
            state_.apply(window.immediate[k]);
            try_points(w, Point::Kind::after_fua, k, window.immediate_marks[k]);
        }
        try_points(w, Point::Kind::prefix, std::nullopt, window.mark_inside);
        for (const std::size_t entry : window.cached)
            state_.apply(entry);
        if (window.flush)
            try_points(w, Point::Kind::after_flush, std::nullopt, windows_[w + 1].mark_before);
    }

    static bool same_phase(const Point &point, Point::Kind kind)
    {
        return point.kind == kind || (kind == Point::Kind::prefix && point.kind == Point::Kind::subset);
    }

    void try_points(std::size_t w, Point::Kind kind, std::optional<std::size_t> position, std::uint64_t mark)
    {
        for (; next_ < plan_.size(); next_++) {
            const Point &point = plan_[next_];
            if (point.window != w || !same_phase(point, kind) || (position && point.position != *position))
                return;
            if (options_.only && *options_.only != next_)
                continue;
            oracle_.advance_to(mark);
            state_.apply_crash(windows_[w], point);
            try_point(point);
            state_.undo();
        }
    }

    void try_point(const Point &point)
    {
        tried_++;
        try {
            check_.check(state_.bytes(), oracle_);
        } catch (const crash::Corruption &error) {
            fmt::print("corrupt at point {} (--seed {} --only {}): {}\n", next_, options_.seed, next_,
                       crash::describe(point));
            if (corrupt_++ < told_in_full)
                tell_in_full(windows_[point.window], error.what());
        }
        std::fflush(stdout);
    }

    void tell_in_full(const crash::Window &window, const std::string &what) const
    {
        constexpr std::size_t longest = 2000;
        fmt::print("  {}\n", what.size() > longest ? what.substr(0, longest) + " ..." : what);
        const auto indices = [](const std::vector<std::size_t> &list) {
            return list.empty() ? std::string("none") : fmt::format("{}..{}", list.front(), list.back());
        };
        fmt::print("  log entries: FUA {}, cached {}, flush {}\n", indices(window.immediate), indices(window.cached),
                   window.flush ? std::to_string(*window.flush) : "none");
        if (!options_.keep.empty())
            keep_image();
    }

    void keep_image() const
    {
        const std::string path = fmt::format("{}/corrupt-{}.img", options_.keep, next_);
        std::ofstream out(path, std::ios::binary);
        out.write(reinterpret_cast<const char *>(state_.bytes().data()),
                  static_cast<std::streamsize>(state_.bytes().size()));
        fmt::print("  kept as {}\n", path);
    }

    static constexpr std::size_t told_in_full = 3;

    const Options &options_;
    crash::WriteLog log_;
    std::vector<crash::Window> windows_;
    crash::Oracle oracle_;
    crash::DiskState state_;
    crash::ImageCheck check_;
    std::vector<Point> plan_;
    std::size_t next_ = 0;
    std::size_t tried_ = 0;
    std::size_t corrupt_ = 0;
};

int run(const Options &options)
{
    Replay replay(options);
    replay.run();
    if (options.sabotage != "none")
        fmt::print("sabotage: {} writes left out or torn\n", replay.omitted());
    if (options.check.bitmaps)
        fmt::print("bitmaps called good: {}\n", replay.good_bitmaps());
    fmt::print("crash points: {} tried, {} corrupt\n", replay.tried(), replay.corrupt());
    // A run that tried nothing has shown nothing.
    if (replay.tried() == 0)
        throw std::runtime_error("the log has no place to crash at");
    return (replay.corrupt() > 0) == options.expect_corrupt ? 0 : 1;
}

} // namespace

int main(int argc, char **argv)
{
    liveblk::Program program("crash-replay",
                             "Replays a log of dm-log-writes and checks the image at many simulated crashes.");
    program.failure_status(2);
    Options options;
    add_options(program.root(), options);
    program.root().action([&] { return run(options); });
    return program.run(argc, argv);
}
