// SPDX-License-Identifier: GPL-2.0-only
// copy-fuzz COUNT DEVICE FILE: malformed calls of the control devices, from LIVEBLK_SEED. Everything must be answered
// with an error or be right, and nothing but the first MiB of the device may change; disks that came to be are taken
// away. What the kernel says of it is for the test to look at.
#include "base/error.hpp"
#include "base/unique_fd.hpp"

#include <blk-copy.h>
#include <loop-copy.h>

#include <fcntl.h>
#include <sys/ioctl.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

using namespace liveblk;

namespace {

// Larger than any argument, so that a size in the number that is too large is in memory of ours.
constexpr std::size_t argument_bytes = 16384;
constexpr std::size_t filled_words = 32;
constexpr std::uint64_t room = 1 << 20;

class Fuzzer {
public:
    Fuzzer(std::uint64_t seed, const std::string &device, const std::string &file)
        : random_(seed),
          copy_(::open(BLK_COPY_DEVICE, O_RDWR | O_CLOEXEC)),
          loop_(::open(LOOP_COPY_DEVICE, O_RDWR | O_CLOEXEC)),
          file_(::open(file.c_str(), O_RDWR | O_CLOEXEC)),
          device_(::open(device.c_str(), O_RDWR | O_CLOEXEC)),
          read_only_(::open(device.c_str(), O_RDONLY | O_CLOEXEC)),
          null_(::open("/dev/null", O_RDWR | O_CLOEXEC))
    {
        if (!copy_ || !loop_ || !file_ || !device_ || !read_only_ || !null_)
            fail_errno("open what is fuzzed");
    }

    void run(unsigned long count)
    {
        for (unsigned long i = 0; i < count; i++) {
            if (below(2))
                copy_call();
            else
                raw_call();
        }
        fmt::print("{} calls, {} of them done\n", count, done_);
    }

private:
    std::uint64_t below(std::uint64_t limit)
    {
        return std::uniform_int_distribution<std::uint64_t>(0, limit - 1)(random_);
    }

    int any_fd()
    {
        const std::array<int, 7> fds = {
            device_.get(), device_.get(), read_only_.get(), file_.get(), null_.get(), copy_.get(), -1};
        return fds[below(fds.size())];
    }

    // Anything, but where it would be right within the room.
    std::uint64_t any_number()
    {
        switch (below(8)) {
        case 0:
            return random_();
        case 1:
            return ~std::uint64_t{0} - below(8192);
        case 2:
            return below(room);
        case 3:
            return std::uint64_t{1} << below(64);
        default:
            return below(room / 512) * 512;
        }
    }

    // Looks right, mostly. A destination that is in the device lies within the room.
    void copy_call()
    {
        std::array<blk_copy_range, 4> ranges = {};
        for (auto &range : ranges) {
            range = {.src = any_number(), .dst = any_number(), .len = any_number(), .done = random_()};
            if (range.dst + range.len > room && range.dst < range.dst + range.len)
                range.dst = ~std::uint64_t{0} - below(1 << 30);
        }
        blk_copy_call call = {};
        call.src_fd = any_fd();
        call.dst_fd = any_fd();
        call.flags = static_cast<std::uint32_t>(below(8) ? below(5) : random_());
        call.nr_ranges = static_cast<std::uint32_t>(below(16) ? below(5) : random_());
        call.ranges = below(32) ? reinterpret_cast<std::uintptr_t>(ranges.data()) : random_();
        call.reserved = below(32) ? 0 : random_();
        // More ranges than there are would be read from wherever they are.
        if (call.nr_ranges > ranges.size() && call.nr_ranges <= BLK_COPY_MAX_RANGES)
            call.nr_ranges = static_cast<std::uint32_t>(ranges.size());
        done_ += ::ioctl(copy_.get(), BLK_COPY_RANGES, &call) == 0;
    }

    unsigned long number()
    {
        static constexpr std::array<unsigned long, 6> known = {BLK_COPY_GET_VERSION, BLK_COPY_RANGES,
                                                               BLK_COPY_GET_INFO,    LOOP_COPY_GET_VERSION,
                                                               LOOP_COPY_DETACH,     LOOP_COPY_RESIZE};
        switch (below(6)) {
        case 0:
            return below(std::uint64_t{1} << 32);
        case 1: // another size or direction
            return known[below(known.size())] ^ (below(0x10000) << 16);
        case 2:
            return _IOWR(below(2) ? BLK_COPY_IOC : LOOP_COPY_IOC, below(256), blk_copy_call);
        default:
            return known[below(known.size())];
        }
    }

    // Any words, to either device, but no range that could be copied.
    void raw_call()
    {
        for (std::size_t i = 0; i < filled_words; i++)
            argument_[i] = below(3) ? static_cast<std::uint32_t>(below(3)) : static_cast<std::uint32_t>(random_());
        void *address = argument_.data();
        if (below(16) == 0)
            address = reinterpret_cast<void *>(below(2) ? random_() : 0);
        const int fd = below(2) ? copy_.get() : loop_.get();
        done_ += ::ioctl(fd, number(), address) == 0;
        attach_call();
    }

    // Files that can be attached, in ways that cannot; what is attached goes again.
    void attach_call()
    {
        loop_copy_attach call = {};
        call.fd = any_fd();
        call.flags = static_cast<std::uint32_t>(below(4) ? below(16) & ~LOOP_COPY_AUTOCLEAR : random_());
        call.block_size = static_cast<std::uint32_t>(below(2) ? std::uint64_t{256} << below(8) : any_number());
        if (below(8) || ::ioctl(loop_.get(), LOOP_COPY_ATTACH, &call) != 0)
            return;
        done_++;
        loop_copy_disk disk = {.number = call.number, .reserved = 0};
        if (::ioctl(loop_.get(), LOOP_COPY_DETACH, &disk) != 0)
            fail_errno(fmt::format("detach disk {}", call.number));
    }

    std::mt19937_64 random_;
    UniqueFd copy_, loop_, file_, device_, read_only_, null_;
    std::array<std::uint32_t, argument_bytes / sizeof(std::uint32_t)> argument_ = {};
    unsigned long done_ = 0;
};

} // namespace

int main(int argc, char **argv)
{
    if (argc != 4) {
        std::fprintf(stderr, "usage: copy-fuzz COUNT DEVICE FILE\n");
        return 2;
    }
    try {
        const char *given = std::getenv("LIVEBLK_SEED");
        const std::uint64_t seed = given ? std::strtoull(given, nullptr, 0) : std::random_device()();
        fmt::print("seed {}\n", seed);
        Fuzzer(seed, argv[2], argv[3]).run(std::strtoul(argv[1], nullptr, 0));
        return 0;
    } catch (const std::exception &e) {
        std::fprintf(stderr, "copy-fuzz: %s\n", e.what());
        return 1;
    }
}
