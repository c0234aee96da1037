// SPDX-License-Identifier: GPL-2.0-only
#include "run.hpp"

#include "device.hpp"
#include "exercise.hpp"
#include "expression.hpp"
#include "kernel_log.hpp"
#include "oracle/survey.hpp"
#include "watchdog.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <fstream>
#include <optional>
#include <sys/stat.h>
#include <unistd.h>

namespace hostile {

using liveblk::oracle::maps_to_nothing;
using liveblk::oracle::maps_to_zero;
using liveblk::oracle::Survey;
using liveblk::oracle::survey;

namespace {

constexpr const char *device_name = "hostile";
constexpr const char *lower_name = "hostile-lower";
// The target's own line, and device-mapper's that the table was not taken.
constexpr std::size_t most_lines_of_refusal = 3;
// "One line for each place": no image has more places than this that a run comes across.
constexpr std::uint64_t taken_in_advance = 16 << 20;
constexpr std::size_t most_lines_of_io = 120;

std::string replace_all(std::string text, const std::string &from, const std::string &to)
{
    for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
        text.replace(at, from.size(), to);
    return text;
}

// The files that table cases name.
void make_odd_files(const std::string &directory)
{
    const std::string fifo = directory + "/fifo";
    if (mkfifo(fifo.c_str(), 0600) && errno != EEXIST)
        throw_errno("make", fifo);
    const auto link = [&](const std::string &to, const std::string &from) {
        if (symlink(to.c_str(), (directory + from).c_str()) && errno != EEXIST)
            throw_errno("link", directory + from);
    };
    link("nowhere-at-all", "/dangling");
    link("loop", "/loop");
}

class CaseRun {
public:
    CaseRun(const Case &c, const Place &place, KernelLog &log) : case_(c), place_(place), log_(log), image_(c.geometry)
    {
        case_.make(image_);
    }

    void run();
    const std::vector<std::string> &problems() const { return problems_; }
    const std::vector<std::string> &lines() const { return lines_; }
    const std::string &outcome() const { return outcome_; }

private:
    std::string params(const std::string &path) const;
    void check_refused(const PlacedImage &placed);
    void check_attached(const PlacedImage &placed);
    void check_after(const PlacedImage &placed, Exercise &exercise);
    void check_header(const Bytes &after);
    std::uint64_t longest_image() const;
    void check_guest(const Bytes &after, const Survey &survey, const View &view);
    void check_snapshot(const Bytes &after, const Survey &was, const Survey &is);
    void collect_log();
    void problem(const std::string &text) { problems_.push_back(text); }

    const Case &case_;
    const Place &place_;
    KernelLog &log_;
    Image image_;
    std::vector<std::string> problems_;
    std::vector<std::string> lines_;
    std::string outcome_;
};

std::string CaseRun::params(const std::string &path) const
{
    if (!case_.params.empty())
        return replace_all(replace_all(case_.params, "%i", path), "%d", place_.directory);
    return case_.read_only ? path + " 1 read_only" : path;
}

void CaseRun::collect_log()
{
    for (std::string &line : log_.take()) {
        if (is_complaint(line))
            problem("the kernel complains: " + line);
        lines_.push_back(std::move(line));
    }
}

void CaseRun::run()
{
    log_.skip();
    begin_step("placing the image");
    PlacedImage placed(place_, image_.bytes);
    DmDevice cleanup(device_name);
    begin_step("attach " + case_.name);
    std::uint64_t sectors = case_.table_sectors ? case_.table_sectors : image_.size() / sector_size;
    DmResult result = dm_create(device_name, sectors, "qcow2", params(placed.path()), case_.read_only);
    if (!result.ok()) {
        outcome_ = "refused";
        collect_log();
        check_refused(placed);
    } else {
        outcome_ = "attached";
        check_attached(placed);
    }
}

void CaseRun::check_refused(const PlacedImage &placed)
{
    if (case_.expect == Expect::ok || case_.expect == Expect::io)
        problem("refused");
    auto lines = target_lines(lines_);
    if (lines.empty())
        problem("refused without a line of log");
    if (lines.size() > most_lines_of_refusal)
        problem(fmt::format("refused with {} lines of log", lines.size()));
    const std::string all = fmt::format("{}", fmt::join(lines, "\n"));
    // A table without a usable image has no image to name.
    if (!case_.no_image && all.find(placed.path()) == std::string::npos)
        problem("no line of log names the image");
    if (!Expression(case_.reason, REG_ICASE).found_in(all))
        problem("no line of log has the reason /" + case_.reason + "/");
    for (char c : all)
        if (static_cast<unsigned char>(c) < ' ' && c != '\n')
            problem("the log has control characters");
    if (!placed.holds(image_.bytes))
        problem("refused, and the image has changed");
}

void CaseRun::check_attached(const PlacedImage &placed)
{
    if (case_.expect == Expect::refuse) {
        problem("attached");
        return;
    }
    begin_step("open " + case_.name);
    Rules rules{.must_write = case_.expect == Expect::ok, .aliases = case_.aliases};
    Exercise exercise(dm_path(device_name), image_.cluster(), image_.view, rules, case_.read_only);
    begin_step("read " + case_.name);
    exercise.read_all();
    if (case_.read_only)
        exercise.refuse_writes();
    else
        exercise.change_all();
    outcome_ += fmt::format(", {} failed reads", exercise.failed_reads());
    check_after(placed, exercise);
    problems_.insert(problems_.end(), exercise.problems().begin(), exercise.problems().end());
    std::size_t lines = target_lines(lines_).size();
    if (case_.expect == Expect::ok && exercise.failed_reads())
        problem("reads of a valid image fail");
    if (exercise.failed_reads() && lines == 0)
        problem("I/O failed without a line of log");
    if (lines > most_lines_of_io)
        problem(fmt::format("{} lines of log", lines));
}

// Detaches, and looks at what is left in the image.
void CaseRun::check_after(const PlacedImage &placed, Exercise &exercise)
{
    begin_step("detach " + case_.name);
    // The exercise's descriptor is still open: a busy device must not go.
    if (dm_remove(device_name).ok())
        problem("a device in use was removed");
    exercise.close();
    if (DmResult result = dm_remove(device_name); !result.ok()) {
        problem(std::string("not removed: ") + std::strerror(result.error));
        return;
    }
    collect_log();
    begin_step("look at what is left of " + case_.name);
    std::uint64_t length = placed.length_now();
    if (length > longest_image()) {
        problem(fmt::format("the image has grown from {} to {} bytes", image_.end(), length));
        return;
    }
    Bytes after = placed.read();
    if (case_.read_only) {
        if (!placed.holds(image_.bytes))
            problem("read-only, and the image has changed");
        return;
    }
    check_header(after);
    Survey before_survey = survey(image_.bytes);
    Survey after_survey = survey(after);
    if (!before_survey.readable)
        return;
    if (!after_survey.readable) {
        problem("the image's tables can no longer be followed");
        return;
    }
    if (!after_survey.dirty && !case_.aliases && after_survey.corruptions > before_survey.corruptions)
        problem(fmt::format("{} corruptions before, {} after", before_survey.corruptions, after_survey.corruptions));
    if (case_.aliases)
        return;
    if (!exercise.flush_failed())
        check_guest(after, after_survey, exercise.view());
    check_snapshot(after, before_survey, after_survey);
}

// The guest's data again and again, as far as one block of refcounts can lead astray, and what is taken
// in advance.
std::uint64_t CaseRun::longest_image() const
{
    std::uint64_t refcounts = image_.cluster() * 8 >> image_.geometry().refcount_order;
    return image_.end() + 3 * image_.size() + (refcounts + 64) * image_.cluster() + taken_in_advance;
}

// Nobody who writes to the guest has a reason to change more of the header than this.
void CaseRun::check_header(const Bytes &after)
{
    using namespace format;
    Bytes was(image_.bytes.begin(), image_.bytes.begin() + static_cast<long>(image_.cluster()));
    Bytes is = after;
    is.resize(was.size());
    const auto ignore = [&](std::uint64_t at, std::uint64_t length) {
        for (std::uint64_t i = at; i < at + length; i++)
            was[i] = is[i] = 0;
    };
    ignore(h_reftable_offset, 12);
    if (image_.geometry().version >= 3) {
        ignore(h_autoclear, 8);
        // Whoever finds an image corrupt may mark it, so that others repair it before they write.
        if (case_.expect != Expect::ok)
            ignore(h_incompatible + 7, 1);
    }
    auto differ = std::mismatch(was.begin(), was.end(), is.begin());
    if (differ.first != was.end())
        problem(fmt::format("the header changed at byte {}", differ.first - was.begin()));
}

// A sector as the image shows it: its bytes, zeros, or nothing that can be read.
std::optional<Bytes> sector_of(const Bytes &image, const Survey &survey, const std::vector<std::uint64_t> &map,
                               std::uint64_t sector)
{
    std::uint64_t k = sector * sector_size / survey.unit;
    std::uint64_t host = k < map.size() ? map[k] : maps_to_nothing;
    if (host == maps_to_zero)
        return Bytes(sector_size);
    std::uint64_t at = host + sector * sector_size % survey.unit;
    if (host == maps_to_nothing || at + sector_size > image.size())
        return std::nullopt;
    auto from = image.begin() + static_cast<std::ptrdiff_t>(at);
    return Bytes(from, from + static_cast<std::ptrdiff_t>(sector_size));
}

void CaseRun::check_guest(const Bytes &after, const Survey &survey, const View &view)
{
    for (std::uint64_t s = 0; s < view.sectors(); s++) {
        if (view.want[s] != Want::exact)
            continue;
        std::optional<Bytes> is = sector_of(after, survey, survey.active, s);
        if (is && std::memcmp(is->data(), view.bytes.data() + s * sector_size, sector_size) == 0)
            continue;
        problem(fmt::format("in the image, sector {} of the guest is wrong", s));
        return;
    }
}

// What could be read of a snapshot before can be read now, and is the same.
void CaseRun::check_snapshot(const Bytes &after, const Survey &was, const Survey &is)
{
    for (std::uint64_t s = 0; s < image_.view.sectors(); s++) {
        std::optional<Bytes> old = sector_of(image_.bytes, was, was.snapshot, s);
        if (!old || old == sector_of(after, is, is.snapshot, s))
            continue;
        problem(fmt::format("in the image, sector {} of the snapshot has changed", s));
        return;
    }
}

std::string quote_lines(const std::vector<std::string> &lines)
{
    std::string text;
    for (const std::string &line : lines)
        text += "      log: " + line + "\n";
    return text;
}

int run_all(const RunOptions &options)
{
    Catalogue catalogue = make_catalogue(options.place.on_block_device());
    const Expression only(options.only);
    std::ofstream report;
    if (!options.log.empty())
        report.open(options.log);
    make_odd_files(options.place.directory);
    KernelLog log;
    std::size_t matching = 0;
    std::size_t count = 0;
    std::size_t wrong = 0;
    for (const Case &c : catalogue.cases()) {
        if (!only.found_in(c.name) || matching++ % options.every != options.first)
            continue;
        auto begin = std::chrono::steady_clock::now();
        CaseRun run(c, options.place, log);
        run.run();
        count++;
        std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        report << fmt::format("{} {} ({}): {} in {:.2f} s\n{}", run.problems().empty() ? "ok   " : "WRONG", c.name,
                              to_string(c.expect), run.outcome(), took.count(), quote_lines(run.lines()))
               << std::flush;
        if (run.problems().empty())
            continue;
        wrong++;
        fmt::print("WRONG {} (expected: {}): {}\n", c.name, to_string(c.expect), run.outcome());
        for (const std::string &p : run.problems())
            fmt::print("      {}\n", p);
        auto lines = target_lines(run.lines());
        lines.resize(std::min<std::size_t>(lines.size(), 6));
        fmt::print("{}", quote_lines(lines));
        std::fflush(stdout);
    }
    fmt::print("hostile cases: {}, {} wrong\n", count, wrong);
    return count && !wrong ? 0 : 1;
}

} // namespace

PlacedImage::PlacedImage(const Place &place, const Bytes &bytes) : length_(bytes.size())
{
    if (!place.on_block_device()) {
        path_ = place.directory + "/image.qcow2";
        write_sparse(path_, bytes);
        return;
    }
    // The lower device is as long as the image, so that there is an end to run beyond.
    length_ = std::max<std::uint64_t>(sector_size, (bytes.size() + sector_size - 1) / sector_size * sector_size);
    Bytes padded = bytes;
    padded.resize(length_);
    Fd fd = open_or_throw(place.block_device, O_WRONLY);
    if (pwrite(fd.get(), padded.data(), length_, 0) != static_cast<ssize_t>(length_) || fsync(fd.get()))
        throw_errno("write", place.block_device);
    DmResult made = dm_create(lower_name, length_ / sector_size, "linear", place.block_device + " 0", false);
    if (!made.ok()) {
        errno = made.error;
        throw_errno("make", lower_name);
    }
    device_ = lower_name;
    path_ = dm_path(lower_name);
}

PlacedImage::~PlacedImage()
{
    if (!device_.empty())
        DmDevice remove(device_);
}

std::uint64_t PlacedImage::length_now() const
{
    struct stat st {};
    if (stat(path_.c_str(), &st))
        throw_errno("stat", path_);
    return S_ISREG(st.st_mode) ? static_cast<std::uint64_t>(st.st_size) : length_;
}

Bytes PlacedImage::read() const
{
    return read_whole(path_, length_now());
}

bool PlacedImage::holds(const Bytes &bytes) const
{
    Bytes padded = bytes;
    padded.resize(length_);
    return length_now() == length_ && read() == padded;
}

std::vector<std::string> target_lines(const std::vector<std::string> &lines)
{
    std::vector<std::string> out;
    for (const std::string &line : lines)
        if (line.find("qcow2") != std::string::npos)
            out.push_back(line);
    return out;
}

int run_cases(const RunOptions &options)
{
    return run_watched(options.step_seconds, [&] { return run_all(options); });
}

} // namespace hostile
