// SPDX-License-Identifier: GPL-2.0-only
// Every subcommand that only reads, and a repair of a copy, on what libFuzzer makes of the seeds. What is refused is
// refused by an Error; any other exception, and whatever the sanitizers say, is a bug.
//
//   fuzz-qcow2-maint --write-seeds DIRECTORY
//   fuzz-qcow2-maint [options of libFuzzer] DIRECTORY
#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "commands.hpp"
#include "mutate.hpp"
#include "seeds.hpp"

#include <fmt/core.h>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t *data, std::size_t size, std::size_t max_size);

namespace {

using namespace liveblk;

constexpr double most_seconds = 10;

double processor_seconds()
{
    timespec now = {};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

// A file in memory.
class MemoryFile {
public:
    MemoryFile(const std::uint8_t *data, std::size_t size) : fd_(::memfd_create("image", MFD_CLOEXEC))
    {
        if (!fd_ || ::write(fd_.get(), data, size) != static_cast<ssize_t>(size))
            fail_errno("write an image into memory");
    }
    std::string path() const { return fmt::format("/proc/self/fd/{}", fd_.get()); }

private:
    UniqueFd fd_;
};

void run(std::vector<std::string> words)
{
    Program program("fuzz", "");
    maint::add_info(program.root());
    maint::add_check(program.root());
    maint::add_snapshot(program.root());
    maint::add_bitmap(program.root());
    const Command::Action action = program.parse(std::move(words));
    try {
        action();
    } catch (const Error &) {
        // Said in words, which is all that is asked.
    }
}

void write_seeds(const std::filesystem::path &directory)
{
    for (const fuzz::Seed &seed : fuzz::make_seeds()) {
        std::ofstream out(directory / seed.name, std::ios::binary);
        out.write(reinterpret_cast<const char *>(seed.bytes.data()), static_cast<std::streamsize>(seed.bytes.size()));
        if (!out.flush())
            fail("write the seed '{}' to '{}'", seed.name, directory.string());
    }
}

} // namespace

extern "C" int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    if (*argc == 3 && std::string((*argv)[1]) == "--write-seeds") {
        write_seeds((*argv)[2]);
        std::exit(EXIT_SUCCESS);
    }
    // libFuzzer and the sanitizers report to standard error.
    if (!std::freopen("/dev/null", "w", stdout))
        fail_errno("open '/dev/null'");
    return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t *data, std::size_t size, std::size_t max_size,
                                               unsigned int seed)
{
    if (seed % 8 == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    std::vector<std::uint8_t> image(data, data + size);
    fuzz::mutate(image, seed);
    image.resize(std::min(image.size(), max_size));
    std::copy(image.begin(), image.end(), data);
    return image.size();
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    const double start = processor_seconds();
    const MemoryFile image(data, size);
    run({"info", image.path()});
    run({"info", "--json", image.path()});
    run({"info", "--force-share", image.path()});
    run({"info", "--backing-chain", "--force-share", image.path()});
    run({"check", image.path()});
    run({"check", "--json", image.path()});
    run({"snapshot", "list", image.path()});
    run({"snapshot", "list", "--json", image.path()});
    // That of the hostile images is called so.
    run({"bitmap", "list", "--json", image.path()});
    run({"bitmap", "dump", image.path(), "b"});
    run({"bitmap", "merge", image.path(), "b", "b"});
    run({"bitmap", "clear", image.path(), "b"});
    run({"bitmap", "remove", image.path(), "b"});
    run({"check", "--repair", "leaks", image.path()});
    run({"check", "--repair", "all", image.path()});
    // libFuzzer's own limit is by the clock, which says more about what else the machine does.
    if (processor_seconds() - start > most_seconds) {
        fmt::print(stderr, "an image took more than {} s\n", most_seconds);
        std::abort();
    }
    return 0;
}
