// SPDX-License-Identifier: GPL-2.0-only
// io-hazards: workloads that the usual tools do not have.
//   sectors FILE   threads write neighbouring sectors of the same blocks, and check their own
//   memory MIB     fills memory and checks it, again and again, so that it is swapped
#include "base/command.hpp"
#include "exercise.hpp"

#include <atomic>
#include <cstring>
#include <fcntl.h>
#include <fmt/core.h>
#include <iostream>
#include <mutex>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

namespace hostile {

namespace {

struct SectorOptions {
    std::string file;
    std::uint64_t bytes = 64 << 10;
    unsigned threads = 8;
    std::uint64_t rounds = 40;
    std::uint64_t seed = 1;
};

// Thread t owns the sectors whose number is t modulo the number of threads.
class SectorHammer {
public:
    explicit SectorHammer(const SectorOptions &options)
        : options_(options),
          fd_(open_or_throw(options.file, O_RDWR | O_DIRECT)),
          rounds_done_(options.bytes / sector_size, 0)
    {
    }

    int run()
    {
        std::vector<std::thread> threads;
        for (unsigned t = 0; t < options_.threads; t++)
            threads.emplace_back([this, t] { hammer(t); });
        for (std::thread &t : threads)
            t.join();
        AlignedBytes buffer = make_aligned(8 * sector_size);
        for (std::uint64_t s = 0; s < rounds_done_.size(); s++)
            check(s, buffer.get(), "at the end");
        fmt::print("{} sectors, {} threads, {} rounds: {} lost writes\n", rounds_done_.size(), options_.threads,
                   options_.rounds, lost_.load());
        return lost_ ? 1 : 0;
    }

private:
    std::uint64_t tag(std::uint64_t sector) const { return options_.seed << 48 | rounds_done_[sector] << 32 | sector; }

    void hammer(unsigned thread)
    {
        AlignedBytes buffer = make_aligned(8 * sector_size);
        Random random(options_.seed * 1000 + thread);
        for (std::uint64_t round = 1; round <= options_.rounds; round++)
            for (std::uint64_t s = thread; s < rounds_done_.size(); s += options_.threads) {
                rounds_done_[s] = round;
                fill_pattern({buffer.get(), sector_size}, tag(s));
                if (pwrite(fd_.get(), buffer.get(), sector_size, offset(s)) != static_cast<ssize_t>(sector_size))
                    report(s, "cannot be written");
                if (random.chance(30))
                    check(s, buffer.get(), "after its write");
            }
    }

    void check(std::uint64_t sector, std::uint8_t *buffer, const char *when)
    {
        std::uint8_t want[sector_size];
        fill_pattern(want, tag(sector));
        if (pread(fd_.get(), buffer, sector_size, offset(sector)) != static_cast<ssize_t>(sector_size) ||
            std::memcmp(buffer, want, sector_size) != 0)
            report(sector, when);
    }

    void report(std::uint64_t sector, const char *what)
    {
        constexpr unsigned most_reports = 10;
        if (lost_++ >= most_reports)
            return;
        std::lock_guard<std::mutex> guard(output_);
        fmt::print("sector {} is wrong {}\n", sector, what);
    }

    static off_t offset(std::uint64_t sector) { return static_cast<off_t>(sector * sector_size); }

    SectorOptions options_;
    Fd fd_;
    std::vector<std::uint64_t> rounds_done_; // of each sector; only its owner writes it
    std::atomic<unsigned> lost_{0};
    std::mutex output_;
};

struct MemoryOptions {
    std::uint64_t mib = 0;
    unsigned passes = 2;
};

int fill_memory(const MemoryOptions &options)
{
    constexpr std::size_t page = 4096;
    std::size_t size = options.mib << 20;
    void *memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        throw_errno("map", std::to_string(options.mib) + " MiB");
    auto *bytes = static_cast<std::uint8_t *>(memory);
    for (unsigned pass = 0; pass < options.passes; pass++) {
        for (std::size_t at = 0; at < size; at += page)
            fill_pattern({bytes + at, page}, at + pass);
        std::uint8_t want[page];
        for (std::size_t at = 0; at < size; at += page) {
            fill_pattern(want, at + pass);
            if (std::memcmp(bytes + at, want, page) != 0) {
                fmt::print("pass {}: page {} has changed\n", pass, at / page);
                return 1;
            }
        }
    }
    fmt::print("{} MiB held their content for {} passes\n", options.mib, options.passes);
    return 0;
}

} // namespace

} // namespace hostile

int main(int argc, char **argv)
{
    using namespace hostile;
    liveblk::Program program("io-hazards", "Workloads that bring out hazards of I/O below a block device");
    liveblk::Command root = program.root();
    root.needs_command();
    SectorOptions sectors;
    MemoryOptions memory;
    liveblk::Command do_sectors = root.command("sectors", "write neighbouring sectors at once");
    do_sectors.add("file", sectors.file).required();
    do_sectors.add("--bytes", sectors.bytes, "from the start of the file");
    do_sectors.add("--threads", sectors.threads);
    do_sectors.add("--rounds", sectors.rounds);
    do_sectors.add("--seed", sectors.seed);
    do_sectors.action([&] { return SectorHammer(sectors).run(); });
    liveblk::Command do_memory = root.command("memory", "fill memory and check it");
    do_memory.add("mib", memory.mib).required();
    do_memory.add("--passes", memory.passes);
    do_memory.action([&] { return fill_memory(memory); });
    return program.run(argc, argv);
}
