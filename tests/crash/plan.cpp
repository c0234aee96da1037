// SPDX-License-Identifier: GPL-2.0-only
#include "plan.hpp"

#include "history.hpp"
#include "random.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>
#include <tuple>

namespace liveblk::crash {
namespace {

std::vector<Point> boundaries(const std::vector<Window> &windows)
{
    std::vector<Point> points;
    for (std::size_t w = 0; w < windows.size(); w++) {
        const Window &window = windows[w];
        if (window.foreign || window.empty())
            continue;
        for (std::size_t k = 0; k < window.immediate.size(); k++)
            points.push_back({w, Point::Kind::after_fua, k, 0});
        if (window.flush && !window.cached.empty())
            points.push_back({w, Point::Kind::after_flush, 0, 0});
    }
    return points;
}

Point point_between(const std::vector<Window> &windows, std::size_t w, test::Random &random)
{
    const Window &window = windows[w];
    Point point{w, Point::Kind::subset, 0, random.next()};
    if (window.cached.empty() || (!window.immediate.empty() && random.percent(15))) {
        point.kind = Point::Kind::torn_fua;
        point.position = random.below(window.immediate.size());
    } else if (random.percent(40)) {
        point.kind = Point::Kind::prefix;
        point.position = random.below(window.cached.size());
    }
    return point;
}

// A window is chosen as often as it has requests, up to a bound: in the largest ones crashes resemble each other.
std::vector<Point> points_between(const std::vector<Window> &windows, std::uint64_t seed, std::size_t count)
{
    constexpr std::size_t heaviest = 24;
    test::Random random(seed);
    std::vector<std::size_t> lots;
    for (std::size_t w = 0; w < windows.size(); w++)
        if (!windows[w].foreign)
            lots.insert(lots.end(), std::min(heaviest, windows[w].immediate.size() + windows[w].cached.size()), w);
    std::vector<Point> points;
    for (std::size_t i = 0; i < count && !lots.empty(); i++)
        points.push_back(point_between(windows, lots[random.below(lots.size())], random));
    return points;
}

// Whether one of the windows next to this one, up to a few away, is a tool's, or there is none.
bool is_close_to_turn(const std::vector<Window> &windows, std::size_t w)
{
    constexpr std::size_t few = 3;
    if (w + few >= windows.size())
        return true;
    const auto at = windows.begin() + static_cast<std::ptrdiff_t>(w);
    return std::any_of(at - static_cast<std::ptrdiff_t>(std::min(w, few)), at + few + 1,
                       [](const Window &window) { return window.foreign; });
}

// Torn FUA write k comes before whole FUA write k; the cached ones come after all of those; the flush is last.
auto order(const Point &point)
{
    const bool fua = point.kind == Point::Kind::torn_fua || point.kind == Point::Kind::after_fua;
    const int phase = fua ? 0 : point.kind == Point::Kind::after_flush ? 2 : 1;
    return std::tuple(point.window, phase, fua ? point.position : 0, fua ? point.kind : Point::Kind::prefix);
}

void sort_points(std::vector<Point> &points)
{
    std::stable_sort(points.begin(), points.end(), [](const Point &a, const Point &b) { return order(a) < order(b); });
}

} // namespace

std::vector<Window> split_windows(const std::vector<LogEntry> &entries)
{
    std::vector<Window> windows(1);
    bool foreign = false;
    std::uint64_t newest_mark = 0;
    for (std::size_t i = 0; i < entries.size(); i++) {
        const LogEntry &entry = entries[i];
        Window &window = windows.back();
        if (entry.is_mark()) {
            foreign = entry.mark == foreign_begin_mark || (foreign && entry.mark != foreign_end_mark);
            window.foreign |= foreign || entry.mark == foreign_end_mark;
            if (const auto mark = parse_mark(entry.mark)) {
                newest_mark = mark;
                (window.immediate.empty() ? window.mark_before : window.immediate_marks.back()) = mark;
                window.mark_inside = mark;
            }
        } else if (entry.changes_device()) {
            (entry.is_immediate() ? window.immediate : window.cached).push_back(i);
            if (entry.is_immediate())
                window.immediate_marks.push_back(newest_mark);
        }
        if (entry.is_flush()) {
            window.flush = i;
            windows.emplace_back();
            windows.back().foreign = foreign;
            windows.back().mark_before = newest_mark;
            windows.back().mark_inside = newest_mark;
        }
    }
    return windows;
}

std::string describe(const Point &point)
{
    switch (point.kind) {
    case Point::Kind::torn_fua:
        return fmt::format("window {}: FUA write {} torn, seed {}", point.window, point.position, point.seed);
    case Point::Kind::after_fua:
        return fmt::format("window {}: after FUA write {}", point.window, point.position);
    case Point::Kind::prefix:
        return fmt::format("window {}: first {} cached requests, the next one torn, seed {}", point.window,
                           point.position, point.seed);
    case Point::Kind::subset:
        return fmt::format("window {}: a subset of the cached requests, seed {}", point.window, point.seed);
    case Point::Kind::after_flush:
        return fmt::format("window {}: after the flush", point.window);
    }
    return "unknown point";
}

std::vector<Point> plan_all(const std::vector<Window> &windows, std::uint64_t seed, std::size_t between)
{
    std::vector<Point> points = boundaries(windows);
    const auto more = points_between(windows, seed, between);
    points.insert(points.end(), more.begin(), more.end());
    sort_points(points);
    return points;
}

std::vector<Point> plan_turns(const std::vector<Window> &windows, std::uint64_t seed, std::size_t each)
{
    test::Random random(seed);
    std::vector<Point> points;
    for (std::size_t w = 0; w < windows.size(); w++)
        if (!windows[w].foreign && !windows[w].empty() && is_close_to_turn(windows, w))
            for (std::size_t i = 0; i < each; i++)
                points.push_back(point_between(windows, w, random));
    sort_points(points);
    return points;
}

std::vector<Point> plan_points(const std::vector<Window> &windows, std::uint64_t seed, std::size_t count)
{
    std::vector<Point> points = boundaries(windows);
    test::Random random(test::combine(seed, 1));
    while (points.size() > std::max<std::size_t>(1, count / 2))
        points.erase(points.begin() + static_cast<std::ptrdiff_t>(random.below(points.size())));
    const auto more = points_between(windows, seed, count - std::min(count, points.size()));
    points.insert(points.end(), more.begin(), more.end());
    sort_points(points);
    return points;
}

} // namespace liveblk::crash
