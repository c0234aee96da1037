// SPDX-License-Identifier: GPL-2.0-only
// The differential test must find what it is for: these are its own tests, on plain files.
#include <catch2/catch.hpp>

#include "difftest.hpp"
#include "pattern.hpp"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

using namespace liveblk::test;

namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20;
constexpr std::uint64_t disk_size = 8 * mib;

// A directory with an empty disk in it, gone at the end of the test.
class Scratch {
public:
    Scratch()
    {
        std::string name = std::filesystem::temp_directory_path() / "difftest.XXXXXX";
        REQUIRE(::mkdtemp(name.data()));
        dir_ = name;
        std::ofstream(disk()).close();
        std::filesystem::resize_file(disk(), disk_size);
    }
    Scratch(const Scratch &) = delete;
    Scratch &operator=(const Scratch &) = delete;
    ~Scratch() { std::filesystem::remove_all(dir_); }

    std::string disk() const { return dir_ / "disk"; }
    std::string model() const { return dir_ / "model"; }

    void overwrite(std::uint64_t offset, std::span<const std::byte> data) const
    {
        std::fstream file(disk(), std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(static_cast<std::streamoff>(offset));
        file.write(reinterpret_cast<const char *>(data.data()), static_cast<std::streamsize>(data.size()));
        REQUIRE(file.flush());
    }

private:
    std::filesystem::path dir_;
};

RunOptions options(std::uint64_t seed)
{
    RunOptions o;
    o.workload.seed = seed;
    o.workload.device_size = disk_size;
    o.workload.area = {0, disk_size};
    o.workload.max_size = 256 << 10;
    o.ops = 400;
    return o;
}

std::string run(const Scratch &scratch, const RunOptions &o, bool &equal)
{
    const BlockTarget target(scratch.disk());
    Model model(scratch.model(), target.size());
    Difftest test(o, target, model, [] { return false; });
    equal = test.run();
    return test.report();
}

std::string content(const std::string &path)
{
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

std::array<std::byte, sector_size> sector_of(const Stamp &stamp)
{
    std::array<std::byte, sector_size> data{};
    fill_pattern(data, stamp);
    return data;
}

} // namespace

TEST_CASE("a sector tells who wrote it, unless it is damaged")
{
    const Stamp stamp{7, 2, 31, 1000};
    auto data = sector_of(stamp);
    CHECK(intact_stamp(data) == stamp);
    CHECK_THAT(describe_sector(data), Catch::Contains("job 2 op 31"));
    data[400] ^= std::byte{1};
    CHECK_FALSE(intact_stamp(data));
    CHECK_THAT(describe_sector(data), Catch::Contains("damaged"));
    CHECK(describe_sector(std::array<std::byte, sector_size>{}) == "zeros");
}

TEST_CASE("neighbouring sectors, operations and seeds differ")
{
    const auto one = sector_of({7, 2, 31, 1000});
    CHECK(one != sector_of({7, 2, 31, 1001}));
    CHECK(one != sector_of({7, 2, 32, 1000}));
    CHECK(one != sector_of({8, 2, 31, 1000}));
}

TEST_CASE("a correct disk passes, in every way of access")
{
    const Scratch scratch;
    auto o = options(11);
    o.jobs = GENERATE(1U, 3U);
    o.engine = GENERATE(Engine::sync, Engine::uring, Engine::mixed);
    o.buffered_percent = GENERATE(0U, 50U, 100U);
    bool equal = false;
    const std::string report = run(scratch, o, equal);
    INFO(report);
    CHECK(equal);
    CHECK(content(scratch.disk()) == content(scratch.model()));
}

TEST_CASE("copies pass too, overlapping ones by being refused")
{
    const Scratch scratch;
    auto o = options(16);
    o.workload.mix.back() = 40;
    o.jobs = GENERATE(1U, 4U);
    o.engine = GENERATE(Engine::sync, Engine::uring);
    o.buffered_percent = GENERATE(0U, 50U);
    bool equal = false;
    const std::string report = run(scratch, o, equal);
    INFO(report);
    CHECK(equal);
    CHECK(content(scratch.disk()) == content(scratch.model()));
}

TEST_CASE("a copy carries doubts with it")
{
    const Scratch scratch;
    Model model(scratch.model(), disk_size);
    const auto old = sector_of({1, 1, 1, 8});
    const std::array<std::byte, sector_size> zeros{};
    model.write({4096, sector_size}, old);
    model.doubt({4096, sector_size});
    model.write({8192, sector_size}, sector_of({1, 1, 2, 16}));
    model.copy({4096, sector_size}, 8192);
    CHECK_FALSE(model.check({4096, sector_size}, old));
    CHECK_FALSE(model.check({8192, sector_size}, zeros));
    model.copy({4096, sector_size}, 8192);
    CHECK(model.check({8192, sector_size}, zeros) == 8192);
}

TEST_CASE("a seed repeats a run of one job")
{
    const Scratch first;
    const Scratch second;
    auto o = options(12);
    o.jobs = 1;
    bool equal = false;
    run(first, o, equal);
    REQUIRE(equal);
    run(second, o, equal);
    REQUIRE(equal);
    CHECK(content(first.model()) == content(second.model()));
    o.workload.seed++;
    run(second, o, equal);
    REQUIRE(equal);
    CHECK(content(first.model()) != content(second.model()));
}

TEST_CASE("a single changed sector is found, with who wrote what is seen")
{
    const Scratch scratch;
    bool equal = false;
    run(scratch, options(13), equal);
    REQUIRE(equal);
    const std::uint64_t offset = GENERATE(std::uint64_t{0}, 3 * mib + 512, disk_size - 512);
    scratch.overwrite(offset, sector_of({99, 1, 5, 0}));
    auto o = options(14);
    o.ops = 0;
    const std::string report = run(scratch, o, equal);
    CHECK_FALSE(equal);
    CHECK_THAT(report, Catch::Contains("at offset " + std::to_string(offset)));
    CHECK_THAT(report, Catch::Contains("seed 99 job 1 op 5"));
}

TEST_CASE("operations stay in their area")
{
    const Scratch scratch;
    auto o = options(15);
    o.workload.area = {2 * mib, mib};
    bool equal = false;
    run(scratch, o, equal);
    REQUIRE(equal);
    const std::string data = content(scratch.disk());
    const auto zero = [](char c) { return c == 0; };
    CHECK(std::all_of(data.begin(), data.begin() + 2 * mib, zero));
    CHECK(std::all_of(data.begin() + 3 * mib, data.end(), zero));
    CHECK_FALSE(std::all_of(data.begin(), data.end(), zero));
}

TEST_CASE("a discarded sector may be old or zeros, once, and nothing else")
{
    const Scratch scratch;
    Model model(scratch.model(), disk_size);
    const Range range{4096, sector_size};
    const auto old = sector_of({1, 1, 1, 8});
    const std::array<std::byte, sector_size> zeros{};
    model.write(range, old);
    model.doubt(range);
    CHECK(model.in_doubt(range));
    SECTION("old stays")
    {
        CHECK_FALSE(model.check(range, old));
        CHECK(model.check(range, zeros) == range.offset);
    }
    SECTION("zeros stay")
    {
        CHECK_FALSE(model.check(range, zeros));
        CHECK(model.check(range, old) == range.offset);
    }
    SECTION("anything else is wrong")
    {
        CHECK(model.check(range, sector_of({1, 1, 2, 8})) == range.offset);
    }
    SECTION("a write ends it")
    {
        model.write(range, sector_of({1, 1, 3, 8}));
        CHECK_FALSE(model.in_doubt(range));
        CHECK(model.check(range, zeros) == range.offset);
    }
}

TEST_CASE("after a failed write each sector is old or new")
{
    const Scratch scratch;
    Model model(scratch.model(), disk_size);
    const Range range{0, 2 * sector_size};
    std::vector<std::byte> old(range.length), fresh(range.length), seen(range.length);
    fill_pattern(old, {1, 0, 1, 0});
    fill_pattern(fresh, {1, 0, 2, 0});
    model.write(range, old);
    std::copy(old.begin(), old.begin() + sector_size, seen.begin());
    std::copy(fresh.begin() + sector_size, fresh.end(), seen.begin() + sector_size);
    CHECK_FALSE(model.adopt(range, seen, fresh));
    CHECK_FALSE(model.check(range, seen));
    std::fill(seen.begin(), seen.end(), std::byte{3});
    CHECK(model.adopt(range, seen, fresh) == 0);
}

TEST_CASE("ranges are shared by readers and by nobody else")
{
    RangeLock locks;
    auto reader = locks.try_lock({0, 1024}, LockMode::shared);
    REQUIRE(reader);
    CHECK(locks.try_lock({512, 512}, LockMode::shared));
    CHECK_FALSE(locks.try_lock({512, 1024}, LockMode::exclusive));
    CHECK(locks.try_lock({1024, 512}, LockMode::exclusive));
    reader.reset();
    const auto writer = locks.try_lock({512, 1024}, LockMode::exclusive);
    REQUIRE(writer);
    CHECK_FALSE(locks.try_lock({0, 1024}, LockMode::shared));
}
