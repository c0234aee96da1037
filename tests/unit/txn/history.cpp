// SPDX-License-Identifier: GPL-2.0-only
#include "history.hpp"

#include "device.h"
#include "disk.hpp"
#include "guest_log.hpp"
#include "image.hpp"
#include "sim.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fmt/format.h>
#include <functional>
#include <memory>
#include <optional>
#include <set>

namespace liveblk::unit::txn {

namespace {

constexpr unsigned most_jobs = 5;
constexpr unsigned most_closes = 6;

struct Plan {
    Shape shape;
    Faults faults;
    std::uint64_t most = 0; // bytes of the image
    bool tight = false;     // that is not enough for all that is written
    std::uint32_t cache_kib = 64;
    unsigned jobs = 1;
    unsigned requests = 8; // of each
    unsigned rounds = 1;   // between which the image is closed
    std::uint64_t largest_unmap = 14;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> hot; // guest clusters: first, count
};

bool chance(unsigned percent)
{
    return sim_random(100) < percent;
}

std::uint64_t between(std::uint64_t low, std::uint64_t high)
{
    return low + sim_random(high - low + 1);
}

void plan_much_metadata(Plan &plan)
{
    constexpr std::uint64_t tables = 36;
    plan.shape.guest_bytes = tables * plan.shape.l2_entries() * plan.shape.cluster();
    for (std::uint64_t i = 0; i < tables; i++)
        plan.hot.emplace_back(i * plan.shape.l2_entries() + sim_random(500), 2);
    plan.jobs = static_cast<unsigned>(between(2, most_jobs));
    plan.requests = static_cast<unsigned>(between(10, 30));
    plan.cache_kib = 64;
}

// Neighbours on the host are none for the guest, so that each needs an entry of its own.
void plan_many_frees(Plan &plan)
{
    Shape &s = plan.shape;
    constexpr std::uint64_t clusters = 1030;
    s.guest_bytes = clusters * s.cluster();
    s.refcount_order = 4;
    s.backwards = true;
    plan.hot = {{0, clusters}};
    for (std::uint64_t c = 0; c < clusters; c++)
        s.data.push_back(c);
    plan.largest_unmap = 700;
    plan.jobs = static_cast<unsigned>(between(2, most_jobs));
    plan.requests = static_cast<unsigned>(between(2, 5));
    plan.rounds = 1;
}

// Of a cluster with data; any, but that no subcluster is both data and zeros.
std::uint64_t plan_bitmap()
{
    const std::uint64_t data = chance(30) ? 0xffffffff : sim_random(0) & sim_random(0) & 0xffffffff;
    return data | (sim_random(0) & 0xffffffff & ~data) << 32;
}

// The places of interest: where blocks of L2 entries and L2 tables end, and the disk.
void plan_guest(Plan &plan)
{
    Shape &s = plan.shape;
    const bool large = s.cluster_bits > 12;
    const std::uint64_t clusters = s.l2_entries() * (large ? 1 : 2) + 10;
    s.guest_bytes = clusters * s.cluster() - (chance(50) ? 3 * sector_bytes : 0);
    plan.hot = {{0, large ? 5 : 14}, {clusters - 6, 6}, {4096 / s.entry_bytes() - 2, 4}};
    if (chance(60))
        plan.hot.emplace_back(s.l2_entries() - 5, 10);
    if (chance(30))
        plan.hot.erase(plan.hot.begin() + 1);
    std::set<std::uint64_t> data;
    const unsigned share = chance(30) ? 0 : 40;
    for (const auto &[first, count] : plan.hot)
        for (std::uint64_t c = first; c < first + count && c + 1 < clusters; c++)
            if (chance(share))
                data.insert(c);
    s.data.assign(data.begin(), data.end());
    for (const std::uint64_t c : s.extended ? s.data : std::vector<std::uint64_t>{})
        s.bitmaps[c] = plan_bitmap();
}

void plan_shape(Plan &plan, Theme theme)
{
    Shape &s = plan.shape;
    s.cluster_bits = chance(12) && theme == Theme::any ? 16 : 12;
    s.version = chance(12) ? 2 : 3;
    s.lazy = s.version >= 3 && chance(35);
    s.snapshot = chance(40);
    s.own_l2 = chance(50);
    s.block_device = chance(35);
    s.granularity_bits = s.version >= 3 && chance(40) ? static_cast<unsigned>(between(9, 17)) : 0;
    s.refcount_order = s.version < 3 ? 4 : static_cast<unsigned>(between(s.snapshot ? 1 : 0, 6));
    if (theme == Theme::extended) {
        s.version = 3;
        s.extended = true;
        s.cluster_bits = static_cast<unsigned>(between(14, 16));
    }
    if (theme != Theme::growing_table)
        return;
    s.version = 3;
    s.refcount_order = 6;
    s.full_reftable = true;
    s.block_device = false;
}

void plan_faults(Plan &plan, Theme theme)
{
    if (theme == Theme::short_of_space || chance(theme == Theme::growing_table ? 25 : 55))
        return;
    plan.faults.outages = static_cast<unsigned>(between(0, 60));
    plan.faults.reads = chance(30) ? 3 : 0;
    plan.faults.writes = chance(40) ? 5 : 0;
    plan.faults.flushes = chance(30) ? 10 : 0;
    plan.faults.extends = chance(30) ? 30 : 0;
}

Plan make_plan(Theme theme)
{
    Plan plan;
    plan_shape(plan, theme);
    plan.tight = theme == Theme::short_of_space;
    plan.jobs = static_cast<unsigned>(between(1, most_jobs));
    plan.requests = static_cast<unsigned>(between(3, 14));
    plan.rounds = static_cast<unsigned>(between(1, 3));
    plan.cache_kib = chance(50) ? 64 : 256;
    if (theme == Theme::much_metadata)
        plan_much_metadata(plan);
    else if (theme == Theme::many_frees)
        plan_many_frees(plan);
    else
        plan_guest(plan);
    // All of it is in one cluster.
    unsigned &granularity = plan.shape.granularity_bits;
    while (granularity && plan.shape.guest_bytes >> granularity >= plan.shape.cluster() * 8)
        granularity++;
    plan_faults(plan, theme);
    return plan;
}

class History {
public:
    History(Theme theme, std::uint64_t seed, Totals &totals);

    std::string run();

private:
    static void run_task(void *arg) { static_cast<History *>(arg)->main(); }
    static void run_job(void *arg) { static_cast<History *>(arg)->job(); }
    static bool jobs_are_done(void *arg) { return !static_cast<History *>(arg)->jobs_; }

    void main();
    void use(bool after_crash);
    void load();
    void close();
    void round();
    void job();
    void request();
    void write();
    void read();
    void unmap();
    void unmap_part();
    void flush();
    void check_read(std::uint64_t first, std::span<const std::uint8_t> found, std::uint64_t since);
    void result(const char *what, int r);
    void set_disk(const Content &content);
    void crashed(const Content &content);
    void keep_crash(const Content &content);
    void restart();
    std::pair<std::uint64_t, std::uint64_t> pick_clusters(std::uint64_t most);
    std::pair<std::uint64_t, std::uint64_t> pick_sectors();
    void note_mapped(std::uint64_t first, std::uint64_t count);
    std::uint64_t used_at_most(std::uint64_t before, std::uint64_t events) const;
    void check_space(std::uint64_t before, std::uint64_t events);
    bool has_faults() const;

    Totals &totals_;
    sim_config config_;
    Arena &arena_;
    Plan plan_;
    Image image_;
    GuestLog log_;
    Checker checker_;
    std::unique_ptr<disk> disk_;
    device *dev_ = nullptr;
    unsigned jobs_ = 0;
    std::uint64_t promised_ = 0; // what was over before this is durable
    bool leaks_allowed_ = false;

    // Guest clusters that may have one of the image's, and how often one was added.
    std::map<std::uint64_t, std::uint64_t> mapped_; // with the number of changes so far
    std::uint64_t map_events_ = 0;
    std::map<std::uint64_t, std::uint64_t> changes_;

    std::uint64_t crash_at_ = 0; // number of the crash after which the image is used again
    std::optional<Content> crash_;
};

Arena &arena()
{
    static Arena all;
    all.clear();
    return all;
}

sim_config make_config(std::uint64_t seed)
{
    sim_config config{};
    config.seed = seed;
    sim_reset(&config);
    config.seed = sim_random(0) + seed;
    config.timers = chance(50);
    config.one_worker = chance(25);
    config.memory_short = chance(20) ? chance(50) ? 100 : 30 : 0;
    sim_reset(&config);
    return config;
}

std::uint64_t capacity(const Plan &plan)
{
    const Shape &s = plan.shape;
    if (s.full_reftable)
        return (s.reftable_entries() * s.reftable_entries() + 4096) * s.cluster();
    std::uint64_t hot = 0;
    for (const auto &[first, count] : plan.hot)
        hot += count;
    const std::uint64_t tables = 12 + 2 * s.l1_entries() + s.data.size();
    return (tables + (plan.tight ? between(hot / 4, hot) : 4 * hot + 80)) * s.cluster();
}

Image start_image(Plan &plan, Arena &arena)
{
    plan.most = capacity(plan);
    return make_image(plan.shape, arena, plan.most);
}

History::History(Theme theme, std::uint64_t seed, Totals &totals)
    : totals_(totals),
      config_(make_config(seed)),
      arena_(arena()),
      plan_(make_plan(theme)),
      image_(start_image(plan_, arena_)),
      log_(plan_.shape.cluster_bits, plan_.shape.guest_bytes / sector_bytes),
      checker_(plan_.shape, log_)
{
    for (const std::uint64_t c : plan_.shape.data) {
        log_.begin_with(c);
        for (std::uint64_t i = 0; i < log_.sectors_in(c); i++)
            if (plan_.shape.has_data(c, i))
                log_.begin_with_data(c, i);
        note_mapped(c, 1);
    }
    crash_at_ = chance(50) ? between(1, 300) : 0;
}

bool History::has_faults() const
{
    const Faults &f = plan_.faults;
    return f.reads || f.writes || f.flushes || f.extends || f.outages;
}

void History::result(const char *what, int r)
{
    if (r && r != -ENOSPC && !has_faults())
        sim_fail("%s fails for no reason: %d", what, r);
    totals_.failed_requests += r && r != -ENOSPC;
    totals_.out_of_space += r == -ENOSPC;
    if (device_failed(dev_))
        sim_fail("the image is found corrupt");
}

void History::note_mapped(std::uint64_t first, std::uint64_t count)
{
    for (std::uint64_t c = first; c < first + count; c++) {
        changes_[c]++;
        map_events_ += mapped_.try_emplace(c, 0).second;
    }
}

std::uint64_t History::used_at_most(std::uint64_t before, std::uint64_t events) const
{
    return image_.fixed + 2 * plan_.shape.l1_entries() + before + (map_events_ - events);
}

// Whoever is out of space has waited for all that was set free before: that is free.
void History::check_space(std::uint64_t before, std::uint64_t events)
{
    if (has_faults() || leaks_allowed_ || plan_.shape.full_reftable)
        return;
    if (used_at_most(before, events) < plan_.most / plan_.shape.cluster())
        sim_fail("there is no space left, although %llu of %llu clusters are in use at most",
                 static_cast<unsigned long long>(used_at_most(before, events)),
                 static_cast<unsigned long long>(plan_.most / plan_.shape.cluster()));
}

std::pair<std::uint64_t, std::uint64_t> History::pick_clusters(std::uint64_t most)
{
    const auto &[first, count] = plan_.hot[sim_random(plan_.hot.size())];
    const std::uint64_t at = sim_random(count);
    return {first + at, between(1, std::min(most, count - at))};
}

std::pair<std::uint64_t, std::uint64_t> History::pick_sectors()
{
    const auto [cluster, clusters] = pick_clusters(plan_.shape.cluster_bits > 12 ? 2 : chance(10) ? 14 : 4);
    const std::uint64_t per = log_.sectors_per_cluster();
    const std::uint64_t end = std::min((cluster + clusters) * per, plan_.shape.guest_bytes / sector_bytes);
    std::uint64_t first = cluster * per;
    if (chance(30))
        return {first, end - first};
    first += sim_random(std::min(per, end - first));
    if (plan_.shape.extended && chance(60))
        return {first, between(1, std::min<std::uint64_t>(end - first, 10))};
    return {first, between(1, end - first)};
}

// Memory of the kernel's, so that it begins at a page.
struct Pages {
    explicit Pages(std::size_t size) : memory(static_cast<std::uint8_t *>(std::aligned_alloc(4096, (size | 4095) + 1)))
    {
    }
    struct Free {
        void operator()(void *p) const { std::free(p); }
    };
    std::unique_ptr<std::uint8_t, Free> memory;
};

void History::write()
{
    const auto [first, count] = pick_sectors();
    const std::uint64_t per = log_.sectors_per_cluster();
    const std::uint64_t cluster = first / per, clusters = (first + count - 1) / per - cluster + 1;
    const GuestLog::Change change = log_.begin(first, count, false);
    const Pages pages(count * sector_bytes);
    for (std::uint64_t i = 0; i < count; i++) {
        const Sector s = GuestLog::content(first + i, change.versions[i]);
        std::copy(s.begin(), s.end(), pages.memory.get() + i * sector_bytes);
    }
    note_mapped(cluster, clusters);
    const std::uint64_t before = mapped_.size(), events = map_events_;
    const int r = device_write(dev_, first * sector_bytes, pages.memory.get(), count * sector_bytes);
    note_mapped(cluster, clusters);
    log_.end(change, !r);
    if (r == -ENOSPC)
        check_space(before, events);
    result("a write", r);
}

void History::check_read(std::uint64_t first, std::span<const std::uint8_t> found, std::uint64_t since)
{
    for (std::size_t at = 0; at < found.size(); at += sector_bytes, first++) {
        Sector s;
        std::copy_n(found.begin() + at, sector_bytes, s.begin());
        const bool zeros = std::all_of(s.begin(), s.end(), [](std::uint8_t b) { return !b; });
        const std::string bad = log_.judge(first, zeros ? nullptr : &s, since);
        if (!bad.empty())
            sim_fail("a read: %s", bad.c_str());
    }
}

void History::read()
{
    const auto [first, count] = pick_sectors();
    const Pages pages(count * sector_bytes);
    const std::uint64_t since = log_.now();
    const int r = device_read(dev_, first * sector_bytes, pages.memory.get(), count * sector_bytes);
    if (!r)
        check_read(first, {pages.memory.get(), count * sector_bytes}, since);
    result("a read", r);
}

void History::unmap()
{
    const auto [cluster, clusters] = pick_clusters(plan_.largest_unmap);
    const std::uint64_t per = log_.sectors_per_cluster();
    const std::uint64_t end = std::min((cluster + clusters) * per, plan_.shape.guest_bytes / sector_bytes);
    const bool keep = plan_.shape.version >= 3 && chance(25);
    const GuestLog::Change change = log_.begin(cluster * per, end - cluster * per, true);
    std::vector<std::uint64_t> changes;
    for (std::uint64_t c = cluster; c < cluster + clusters; c++)
        changes.push_back(changes_[c]);
    const int r = device_unmap(dev_, cluster * plan_.shape.cluster(), clusters, keep);
    log_.end(change, !r);
    for (std::uint64_t c = cluster; c < cluster + clusters && !r && !keep; c++)
        if (changes_[c] == changes[c - cluster])
            mapped_.erase(c);
    result("a discard", r);
}

// Of one cluster.
void History::unmap_part()
{
    const std::uint64_t cluster = pick_clusters(1).first, per = plan_.shape.subcluster() / sector_bytes;
    const std::uint64_t begin = cluster * log_.sectors_per_cluster();
    const std::uint64_t units = (log_.sectors_in(cluster) - 1) / per + 1;
    const std::uint64_t first = sim_random(units), count = between(1, units - first);
    const std::uint64_t end = begin + std::min((first + count) * per, log_.sectors_in(cluster));
    const GuestLog::Change change = log_.begin(begin + first * per, end - (begin + first * per), true);
    const int r = device_unmap_part(dev_, (begin + first * per) * sector_bytes, static_cast<unsigned>(count));
    log_.end(change, !r);
    result("zeroing a part", r);
}

void History::flush()
{
    const std::uint64_t since = log_.now();
    const int r = device_flush(dev_);
    if (!r)
        promised_ = std::max(promised_, since);
    result("a flush", r);
}

void History::request()
{
    const std::uint64_t dice = sim_random(100);
    if (dice < 45)
        write();
    else if (dice < 60)
        read();
    else if (dice < (plan_.tight ? 82 : 74))
        plan_.shape.extended &&chance(60) ? unmap_part() : unmap();
    else if (dice < 86)
        flush();
    else if (dice < 91)
        device_kick(dev_);
    else if (dice < 93)
        device_drain(dev_);
    else if (dice < 97)
        sim_shrink(between(1, 32));
    else
        sim_let_time_pass();
}

void History::job()
{
    for (unsigned i = 0; i < plan_.requests; i++)
        request();
    jobs_--;
}

void History::round()
{
    jobs_ = plan_.jobs;
    for (unsigned i = 0; i < plan_.jobs; i++)
        sim_spawn(run_job, this);
    sim_wait(jobs_are_done, this, "all jobs");
}

void History::load()
{
    int r = device_load(dev_);
    result("loading", r);
    if (!r)
        return;
    checker_.bitmap_may_be_in_use();
    disk_->set_faults({});
    r = device_load(dev_);
    if (r)
        sim_fail("an image that was closed cannot be loaded: %d", r);
    disk_->set_faults(plan_.faults);
}

void History::close()
{
    int r = device_close(dev_);
    for (unsigned i = 0; r && i < most_closes; i++) {
        result("closing", r);
        totals_.failed_closes++;
        if (i == most_closes / 2)
            disk_->set_faults({});
        r = device_go_on(dev_);
        if (!r && i != most_closes / 2)
            round();
        result("going on", r);
        r = device_close(dev_);
    }
    if (r)
        sim_fail("an image cannot be closed: %d", r);
    promised_ = log_.now();
    const bool leaks = leaks_allowed_ || has_faults() || plan_.shape.full_reftable;
    const std::string bad = checker_.closed(disk_->now(), promised_, leaks, plan_.tight || has_faults());
    if (!bad.empty())
        sim_fail("closed: %s", bad.c_str());
    disk_->set_faults(plan_.faults);
}

// What a crash at any moment leaves.
void History::crashed(const Content &content)
{
    const std::string bad = checker_.after_crash(content, promised_);
    if (!bad.empty())
        sim_fail("after crash %llu: %s", static_cast<unsigned long long>(disk_->traffic().crashes), bad.c_str());
    if (disk_->traffic().crashes == crash_at_ && !Checker::dirty(content))
        keep_crash(content);
}

void History::keep_crash(const Content &content)
{
    crash_ = content;
    crash_->cut();
}

// The image as the crash left it is used again.
void History::restart()
{
    const Content content = std::move(*crash_);
    crash_.reset();
    crash_at_ = 0;
    promised_ = 0;
    checker_.after_crash(content, 0);
    checker_.bitmap_is_older();
    checker_.bitmap_may_be_in_use();
    std::vector<std::pair<std::uint64_t, const Sector *>> found;
    for (const auto &[cluster, sectors] : log_.clusters())
        for (std::uint64_t i = 0; i < log_.sectors_in(cluster); i++) {
            const std::uint64_t sector = cluster * log_.sectors_per_cluster() + i;
            found.emplace_back(sector, checker_.guest_sector(content, sector));
        }
    for (const auto &[sector, is] : found)
        log_.begin_anew_with(sector, is);
    leaks_allowed_ = true;
    totals_.crash_reloads++;
    set_disk(content);
    use(true);
}

void History::set_disk(const Content &content)
{
    disk_ = std::make_unique<disk>(arena_, content, plan_.most, plan_.shape.block_device);
    disk_->set_faults(plan_.faults);
    disk_->set_check([this](const Content &after_crash) { crashed(after_crash); });
}

void History::use(bool after_crash)
{
    dev_ = device_new(disk_.get(), plan_.shape.block_device, plan_.cache_kib, plan_.shape.guest_bytes);
    for (unsigned i = 0; i < (after_crash ? 1 : plan_.rounds); i++) {
        load();
        round();
        close();
    }
    device_free(dev_);
    totals_.moved_reftables += disk_->now().number(56, 4) > 1;
    totals_.writes += disk_->traffic().writes;
    totals_.flushes += disk_->traffic().flushes;
    totals_.crashes += disk_->traffic().crashes;
}

void History::main()
{
    use(false);
    if (crash_)
        restart();
}

std::string History::run()
{
    set_disk(image_.content);
    totals_.histories++;
    if (sim_run(run_task, this) && sim_nothing_left())
        return "";
    return fmt::format("{}\n{} jobs, version {}, {} KiB clusters, refcount order {}{}{}{}{}{}{}{}{}\n{}", sim_failure(),
                       plan_.jobs, plan_.shape.version, plan_.shape.cluster() >> 10, plan_.shape.refcount_order,
                       plan_.shape.lazy ? ", lazy" : "", plan_.shape.snapshot ? ", snapshot" : "",
                       plan_.shape.block_device ? ", block device" : "", plan_.shape.granularity_bits ? ", bitmap" : "",
                       plan_.shape.extended ? ", extended" : "", has_faults() ? ", faults" : "",
                       config_.one_worker ? ", one worker" : "", config_.memory_short ? ", short of memory" : "",
                       sim_log());
}

} // namespace

std::string run_history(std::uint64_t seed, Theme theme, Totals &totals)
{
    // A task that failed stays where it was, and refers to it.
    auto history = std::make_unique<History>(theme, seed, totals);
    std::string bad = history->run();
    if (!bad.empty())
        history.release();
    return bad;
}

} // namespace liveblk::unit::txn
