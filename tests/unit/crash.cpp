// SPDX-License-Identifier: GPL-2.0-only
#include "disk_state.hpp"
#include "history.hpp"
#include "log_writes.hpp"
#include "oracle.hpp"
#include "oracle/reader.hpp"
#include "pattern.hpp"
#include "plan.hpp"
#include "process.hpp"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

namespace {

using namespace liveblk::crash;
using liveblk::oracle::Reader;
namespace test = liveblk::test;
using Kind = Event::Kind;
using Bytes = std::vector<std::byte>;

constexpr std::uint64_t seed = 7;
constexpr std::uint64_t cluster = 4096;

class TemporaryDirectory {
public:
    TemporaryDirectory()
    {
        std::string name = std::filesystem::temp_directory_path() / "unit-crash-XXXXXX";
        if (!::mkdtemp(name.data()))
            throw std::runtime_error("make a temporary directory");
        path_ = name;
    }
    TemporaryDirectory(const TemporaryDirectory &) = delete;
    TemporaryDirectory &operator=(const TemporaryDirectory &) = delete;
    ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
    std::string file(const std::string &name) const { return path_ / name; }

private:
    std::filesystem::path path_;
};

void write_file(const std::string &path, const Bytes &bytes)
{
    std::ofstream out(path, std::ios::binary);
    out.write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

// A log as dm-log-writes would write it, for a device with sectors of 512 bytes.
class LogMaker {
public:
    LogMaker &request(std::uint64_t flags, std::uint64_t sector, std::uint64_t sectors, char fill = 0)
    {
        header(flags, sector, sectors, 0);
        if (!(flags & log_discard))
            bytes_.insert(bytes_.end(), sectors * 512, static_cast<std::byte>(fill));
        return *this;
    }

    LogMaker &mark(const std::string &text)
    {
        const std::size_t at = header(log_mark, 0, 0, text.size());
        std::memcpy(bytes_.data() + at + sizeof(LogEntryHeader), text.data(), text.size());
        return *this;
    }

    LogMaker &flush() { return request(log_flush, 0, 0); }

    WriteLog open(const TemporaryDirectory &directory)
    {
        LogSuper super{Le64(LogSuper::magic_value), Le64(1), Le64(entries_), Le32(512)};
        std::memcpy(bytes_.data(), &super, sizeof(super));
        write_file(directory.file("log"), bytes_);
        return WriteLog(directory.file("log"));
    }

private:
    std::size_t header(std::uint64_t flags, std::uint64_t sector, std::uint64_t sectors, std::uint64_t length)
    {
        const LogEntryHeader entry{Le64(sector), Le64(sectors), Le64(flags), Le64(length)};
        const std::size_t at = bytes_.size();
        bytes_.resize(at + 512);
        std::memcpy(bytes_.data() + at, &entry, sizeof(entry));
        entries_++;
        return at;
    }

    Bytes bytes_ = Bytes(512);
    std::uint64_t entries_ = 0;
};

Event issue(Kind kind, std::uint64_t op, std::uint64_t offset, std::uint64_t length)
{
    return {kind, op, offset, length, 0, {}};
}

Event complete(std::uint64_t op)
{
    return {Kind::complete, op, 0, 0, 0, {}};
}

Event begin_flush(std::uint64_t flush)
{
    return {Kind::flush_begin, flush, 0, 0, 0, {}};
}

Event mark(Kind kind, std::uint64_t number, std::uint64_t about)
{
    return {kind, about, 0, 0, number, {}};
}

Bytes data_of(std::uint64_t op, std::uint64_t sector)
{
    Bytes bytes(512);
    test::fill_pattern(bytes, {seed, 0, op, sector});
    return bytes;
}

const Bytes zeros(512);

bool accepts(const Oracle &oracle, std::uint64_t sector, const Bytes &content)
{
    return !oracle.judge(sector, content).has_value();
}

Oracle make_oracle(std::vector<Event> events)
{
    return Oracle(History{seed, 16 * cluster, cluster, std::move(events)});
}

std::byte byte_at(const DiskState &state, std::size_t offset)
{
    return state.bytes()[offset];
}

} // namespace

TEST_CASE("integers keep their byte order on disk")
{
    const Le32 little(0x01020304);
    CHECK(std::memcmp(&little, "\4\3\2\1", 4) == 0);
    CHECK(little.value() == 0x01020304);
    CHECK_THROWS_AS(load<Le64>(zeros, 508), std::out_of_range);
    CHECK(load<Le64>(zeros, 504).value() == 0);

    namespace format = liveblk::oracle::format;
    const auto big = std::as_bytes(std::span("\1\2\3\4\5\6\7"));
    CHECK(format::get<std::uint32_t>(big, 0) == 0x01020304);
    CHECK(format::get<std::uint64_t>(big, 0) == 0x0102030405060700);
    CHECK_THROWS_AS(format::get<std::uint64_t>(big, 1), std::out_of_range);
    CHECK_THROWS_AS(format::get<std::uint64_t>(big, ~0ULL), std::out_of_range);
}

TEST_CASE("a log is read entry by entry")
{
    const TemporaryDirectory directory;
    const auto log = LogMaker()
                         .request(0, 8, 2, 'a')
                         .mark("m12")
                         .request(log_discard, 100, 50)
                         .flush()
                         .request(log_fua | log_metadata, 0, 1, 'b')
                         .open(directory);
    const auto &entries = log.entries();
    REQUIRE(entries.size() == 5);
    CHECK(entries[0].offset == 4096);
    CHECK(log.data(entries[0]) == Bytes(1024, std::byte{'a'}));
    CHECK(entries[1].mark == "m12");
    CHECK(entries[2].is_discard());
    CHECK(entries[2].length == 25600);
    CHECK(log.data(entries[2]).empty());
    CHECK(entries[3].is_flush());
    CHECK(entries[4].is_immediate());
    CHECK(log.data(entries[4]) == Bytes(512, std::byte{'b'}));
}

TEST_CASE("a log that is none or ends early is refused")
{
    const TemporaryDirectory directory;
    write_file(directory.file("log"), Bytes(4096));
    CHECK_THROWS_WITH(WriteLog(directory.file("log")), Catch::Contains("not a log"));
    CHECK_THROWS(WriteLog(directory.file("none")));
    const auto log = LogMaker().request(0, 0, 4, 'a').open(directory);
    std::filesystem::resize_file(directory.file("log"), 1500);
    CHECK_THROWS_WITH(log.data(log.entries()[0]), Catch::Contains("ends"));
    CHECK_THROWS_WITH(LogMaker().request(log_flush, 0, 1).open(directory), Catch::Contains("flush with data"));
    CHECK_THROWS_WITH(LogMaker().request(64, 0, 1).open(directory), Catch::Contains("unknown flags"));
}

TEST_CASE("windows end at flushes, and marks belong to what came before them")
{
    const TemporaryDirectory directory;
    const auto log = LogMaker()
                         .mark("m1")
                         .request(log_fua, 0, 1)
                         .mark("m2")
                         .request(log_fua, 1, 1)
                         .request(0, 2, 1)
                         .flush()
                         .mark("m3")
                         .request(0, 3, 1)
                         .mark("dm-log-writes-end")
                         .open(directory);
    const auto windows = split_windows(log.entries());
    REQUIRE(windows.size() == 2);
    CHECK(windows[0].immediate == std::vector<std::size_t>{1, 3});
    CHECK(windows[0].cached == std::vector<std::size_t>{4});
    CHECK(windows[0].mark_before == 1);
    CHECK(windows[0].immediate_marks == std::vector<std::uint64_t>{2, 2});
    CHECK(windows[0].mark_inside == 2);
    CHECK(windows[0].flush == 5);
    CHECK(windows[1].mark_before == 3);
    CHECK(windows[1].cached == std::vector<std::size_t>{7});
    CHECK_FALSE(windows[1].flush);
}

TEST_CASE("no crash is simulated in what foreign tools wrote")
{
    const TemporaryDirectory directory;
    const auto log = LogMaker()
                         .request(0, 0, 1)
                         .mark(foreign_begin_mark)
                         .flush()
                         .request(0, 1, 1)
                         .flush()
                         .request(0, 2, 1)
                         .mark(foreign_end_mark)
                         .flush()
                         .request(0, 3, 1)
                         .flush()
                         .open(directory);
    const auto windows = split_windows(log.entries());
    REQUIRE(windows.size() == 5);
    CHECK(windows[0].foreign);
    CHECK(windows[1].foreign);
    CHECK(windows[2].foreign);
    CHECK_FALSE(windows[3].foreign);
    for (const Point &point : plan_all(windows, seed, 50))
        CHECK(point.window == 3);
}

TEST_CASE("the points of turns are near where a tool had the image, and at the end")
{
    const TemporaryDirectory directory;
    LogMaker maker;
    for (unsigned i = 0; i < 30; i++) {
        if (i == 10)
            maker.mark(foreign_begin_mark);
        maker.request(0, i, 1);
        if (i == 10)
            maker.mark(foreign_end_mark);
        maker.flush();
    }
    const auto log = maker.open(directory);
    std::set<std::size_t> seen;
    for (const Point &point : plan_turns(split_windows(log.entries()), seed, 2))
        seen.insert(point.window);
    CHECK(seen == std::set<std::size_t>{7, 8, 9, 11, 12, 13, 28, 29});
}

TEST_CASE("a plan has every boundary, in the order of the log, and repeats with its seed")
{
    const TemporaryDirectory directory;
    LogMaker maker;
    for (unsigned i = 0; i < 10; i++)
        maker.request(log_fua, i, 1).request(0, 20 + i, 4).request(0, 40 + i, 4).flush();
    const auto log = maker.open(directory);
    const auto windows = split_windows(log.entries());
    const auto all = plan_all(windows, seed, 30);
    CHECK(all.size() == 50);
    CHECK(std::count_if(all.begin(), all.end(), [](const Point &p) { return p.is_boundary(); }) == 20);
    CHECK(std::is_sorted(all.begin(), all.end(), [](const Point &a, const Point &b) { return a.window < b.window; }));
    const auto some = plan_points(windows, seed, 16);
    CHECK(some.size() == 16);
    const auto again = plan_points(windows, seed, 16);
    const auto other = plan_points(windows, seed + 1, 16);
    const auto text = [](const std::vector<Point> &points) {
        std::string joined;
        for (const Point &point : points)
            joined += describe(point) + "\n";
        return joined;
    };
    CHECK(text(some) == text(again));
    CHECK(text(some) != text(other));
}

TEST_CASE("a crash changes the state until it is undone")
{
    const TemporaryDirectory directory;
    const auto log =
        LogMaker().request(log_fua, 0, 1, 'f').request(0, 1, 1, 'a').request(0, 2, 1, 'b').flush().open(directory);
    write_file(directory.file("base"), Bytes(8 * 512));
    DiskState state(directory.file("base"), log, seed);
    const auto windows = split_windows(log.entries());
    state.apply(0);
    CHECK(byte_at(state, 0) == std::byte{'f'});
    state.apply_crash(windows[0], {0, Point::Kind::prefix, 1, 3});
    CHECK(byte_at(state, 512) == std::byte{'a'});
    state.undo();
    CHECK(byte_at(state, 512) == std::byte{0});
    CHECK(byte_at(state, 0) == std::byte{'f'});
}

TEST_CASE("subsets of the cached writes come in every combination")
{
    const TemporaryDirectory directory;
    const auto log = LogMaker().request(0, 0, 1, 'a').request(0, 1, 1, 'b').flush().open(directory);
    write_file(directory.file("base"), Bytes(2 * 512));
    DiskState state(directory.file("base"), log, seed);
    const auto windows = split_windows(log.entries());
    std::set<std::pair<std::byte, std::byte>> seen;
    for (std::uint64_t s = 0; s < 200; s++) {
        state.apply_crash(windows[0], {0, Point::Kind::subset, 0, s});
        seen.emplace(byte_at(state, 0), byte_at(state, 512));
        state.undo();
    }
    CHECK(seen.size() == 4);
}

TEST_CASE("a torn write is torn between sectors only")
{
    const TemporaryDirectory directory;
    const auto log = LogMaker().request(log_fua, 0, 4, 'a').open(directory);
    write_file(directory.file("base"), Bytes(4 * 512));
    DiskState state(directory.file("base"), log, seed);
    const auto windows = split_windows(log.entries());
    bool partly = false;
    for (std::uint64_t s = 0; s < 50; s++) {
        state.apply_crash(windows[0], {0, Point::Kind::torn_fua, 0, s});
        unsigned there = 0;
        for (std::size_t sector = 0; sector < 4; sector++) {
            CHECK(byte_at(state, sector * 512) == byte_at(state, sector * 512 + 511));
            there += byte_at(state, sector * 512) == std::byte{'a'};
        }
        partly |= there != 0 && there != 4;
        state.undo();
    }
    CHECK(partly);
}

TEST_CASE("what is past the end of the device is refused")
{
    const TemporaryDirectory directory;
    const auto log = LogMaker().request(0, 7, 2, 'a').open(directory);
    write_file(directory.file("base"), Bytes(8 * 512));
    DiskState state(directory.file("base"), log, seed);
    CHECK_THROWS_WITH(state.apply(0), Catch::Contains("past the device"));
}

TEST_CASE("a completed flush makes completed writes the oldest that may be found")
{
    auto oracle = make_oracle({issue(Kind::write, 1, 0, 512), complete(1), issue(Kind::write, 2, 512, 512),
                               begin_flush(1), complete(2), mark(Kind::mark_flush, 1, 1), issue(Kind::write, 3, 0, 512),
                               mark(Kind::mark_flush, 2, 1), issue(Kind::write, 4, 0, 512)});
    CHECK(accepts(oracle, 0, zeros));
    CHECK(accepts(oracle, 0, data_of(1, 0)));
    CHECK_FALSE(accepts(oracle, 0, data_of(3, 0)));
    oracle.advance_to(1);
    CHECK_FALSE(accepts(oracle, 0, zeros));
    CHECK(accepts(oracle, 0, data_of(1, 0)));
    CHECK(accepts(oracle, 0, data_of(3, 0)));
    CHECK_FALSE(accepts(oracle, 0, data_of(4, 0)));
    // Not complete when the flush began.
    CHECK(accepts(oracle, 1, zeros));
    CHECK(accepts(oracle, 1, data_of(2, 1)));
    // Data of another sector is a leak of the host's content.
    CHECK_FALSE(accepts(oracle, 1, data_of(1, 0)));
    oracle.advance_to(2);
    CHECK(accepts(oracle, 0, data_of(4, 0)));
    oracle.advance_to_end();
    CHECK(accepts(oracle, 0, data_of(4, 0)));
    CHECK_FALSE(accepts(oracle, 0, data_of(3, 0)));
}

TEST_CASE("a FUA write promises itself and nothing else")
{
    auto oracle = make_oracle({issue(Kind::write, 1, 0, 512), complete(1), issue(Kind::fua_write, 2, 512, 1024),
                               complete(2), mark(Kind::mark_op, 1, 2)});
    oracle.advance_to(1);
    CHECK(accepts(oracle, 0, zeros));
    CHECK_FALSE(accepts(oracle, 1, zeros));
    CHECK(accepts(oracle, 2, data_of(2, 2)));
}

TEST_CASE("a torn sector and one of another run are never accepted")
{
    auto oracle = make_oracle({issue(Kind::write, 1, 0, 512), complete(1)});
    Bytes torn = data_of(1, 0);
    torn[300] ^= std::byte{1};
    CHECK_FALSE(accepts(oracle, 0, torn));
    Bytes foreign(512);
    test::fill_pattern(foreign, {seed + 1, 0, 1, 0});
    CHECK_FALSE(accepts(oracle, 0, foreign));
    CHECK_FALSE(accepts(oracle, 100, data_of(1, 100)));
}

TEST_CASE("a discard of a part of a cluster may have left what was there")
{
    const auto discarded = [](std::uint64_t offset, std::uint64_t length) {
        auto oracle =
            make_oracle({issue(Kind::write, 1, 0, 2 * cluster), complete(1), issue(Kind::discard, 2, offset, length),
                         complete(2), begin_flush(1), mark(Kind::mark_flush, 1, 1)});
        oracle.advance_to(1);
        return oracle;
    };
    const auto whole = discarded(0, cluster);
    CHECK(accepts(whole, 1, zeros));
    CHECK_FALSE(accepts(whole, 1, data_of(1, 1)));
    const auto part = discarded(512, cluster);
    CHECK(accepts(part, 1, zeros));
    CHECK(accepts(part, 1, data_of(1, 1)));
    CHECK_FALSE(accepts(part, 0, zeros));
}

TEST_CASE("a snapshot keeps the state of its time")
{
    Event snapshot{Kind::mark_snapshot, 0, 0, 0, 1, "s"};
    auto oracle =
        make_oracle({issue(Kind::write, 1, 0, 512), complete(1), snapshot, issue(Kind::write, 2, 0, 512), complete(2)});
    CHECK(oracle.snapshots().empty());
    oracle.advance_to(1);
    REQUIRE(oracle.snapshots() == std::vector<std::string>{"s"});
    CHECK_FALSE(oracle.judge_snapshot("s", 0, data_of(1, 0)));
    CHECK(oracle.judge_snapshot("s", 0, data_of(2, 0)));
    CHECK(oracle.judge_snapshot("s", 0, zeros));
    CHECK(accepts(oracle, 0, data_of(2, 0)));
}

TEST_CASE("a history survives its file")
{
    const TemporaryDirectory directory;
    Event snapshot{Kind::mark_snapshot, 0, 0, 0, 4, "name"};
    Event file{Kind::mark_file, 3, 0, 999, 5, {}};
    const History history{seed,
                          1 << 20,
                          cluster,
                          {issue(Kind::write, 1, 0, 512), issue(Kind::fua_write, 2, 512, 512),
                           issue(Kind::discard, 3, 1024, 512), issue(Kind::write_zeroes, 4, 0, 512), complete(1),
                           begin_flush(1), mark(Kind::mark_flush, 2, 1), mark(Kind::mark_op, 3, 2), snapshot, file}};
    history.save(directory.file("history"));
    const History back = History::load(directory.file("history"));
    REQUIRE(back.events.size() == history.events.size());
    for (std::size_t i = 0; i < back.events.size(); i++) {
        CHECK(back.events[i].kind == history.events[i].kind);
        CHECK(back.events[i].id == history.events[i].id);
        CHECK(back.events[i].offset == history.events[i].offset);
        CHECK(back.events[i].length == history.events[i].length);
        CHECK(back.events[i].mark == history.events[i].mark);
        CHECK(back.events[i].name == history.events[i].name);
    }
    std::ofstream(directory.file("history"), std::ios::app) << "W 5\n";
    CHECK_THROWS_WITH(History::load(directory.file("history")), Catch::Contains("line 12"));
    CHECK(parse_mark(mark_text(77)) == 77);
    CHECK(parse_mark("dm-log-writes-end") == 0);
    CHECK(parse_mark("m1x") == 0);
}

TEST_CASE("the reader sees what QEMU wrote")
{
    const TemporaryDirectory directory;
    const std::string image = directory.file("image");
    run_or_throw({"qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", image, "8M"});
    run_or_throw({"qemu-io", "-c", "write -P 0x11 0 4k", "-c", "write -P 0x22 5M 1k", image});
    run_or_throw({"qemu-img", "snapshot", "-c", "before", image});
    run_or_throw({"qemu-io", "-c", "write -P 0x33 0 512", "-c", "write -z 5M 4k", image});
    std::ifstream in(image, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    const auto bytes = std::as_bytes(std::span(text));
    const Reader reader(bytes);
    CHECK(reader.plain());
    CHECK(reader.size() == 8 << 20);
    CHECK(reader.cluster_size() == 4096);
    CHECK_FALSE(reader.dirty());
    CHECK(reader.sector(0)[0] == std::byte{0x33});
    CHECK(reader.sector(1)[0] == std::byte{0x11});
    CHECK(reader.sector((5 << 20) / 512).empty());
    CHECK(reader.sector(1000).empty());
    const auto snapshots = reader.snapshots();
    REQUIRE(snapshots.size() == 1);
    CHECK(snapshots[0].name == "before");
    CHECK(reader.sector(snapshots[0].l1, 0)[511] == std::byte{0x11});
    CHECK(reader.sector(snapshots[0].l1, (5 << 20) / 512)[0] == std::byte{0x22});
    CHECK_THROWS(reader.sector((8 << 20) / 512 + 4096));
    CHECK_THROWS_WITH(Reader(bytes.subspan(512)), Catch::Contains("no qcow2 header"));
}
