// SPDX-License-Identifier: GPL-2.0-only
// blk-interposer-fuzz COUNT: malformed calls of the control device, from LIVEBLK_SEED. Everything must be answered with
// an error or be right; pairs that came to be are taken away. What the kernel says of it is for the test to look at.
#include "base/error.hpp"
#include "base/unique_fd.hpp"

#include <blk-interposer.h>

#include <fcntl.h>
#include <sys/ioctl.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

using namespace liveblk;

namespace {

// Larger than any argument, so that a size in the number that is too large is in memory of ours.
constexpr std::size_t argument_size = 16384;
// The longest argument and more.
constexpr std::size_t filled_words = 64;

class Fuzzer {
public:
    explicit Fuzzer(std::uint64_t seed) : random_(seed), control_(::open(BLK_INTERPOSER_DEVICE, O_RDWR | O_CLOEXEC))
    {
        if (!control_)
            fail_errno("open '" BLK_INTERPOSER_DEVICE "'");
        for (const char *path : {"/dev/null", "/dev/vda", "/dev/vdb", "/", BLK_INTERPOSER_DEVICE})
            fds_.emplace_back(::open(path, O_RDONLY | O_CLOEXEC));
    }

    void run(unsigned long count)
    {
        for (unsigned long i = 0; i < count; i++) {
            call();
            // Not to run out of numbers for disks.
            if (created_ > 8)
                clean();
        }
        clean();
        std::printf("%lu calls, %lu of them done\n", count, done_);
    }

private:
    std::uint64_t below(std::uint64_t limit)
    {
        return std::uniform_int_distribution<std::uint64_t>(0, limit - 1)(random_);
    }

    unsigned long number()
    {
        static constexpr std::array<unsigned long, 6> known = {BLK_INTERPOSER_GET_VERSION, BLK_INTERPOSER_CREATE,
                                                               BLK_INTERPOSER_ATTACH,      BLK_INTERPOSER_DETACH,
                                                               BLK_INTERPOSER_DESTROY,     BLK_INTERPOSER_STATUS};
        switch (below(8)) {
        case 0:
            return below(std::uint64_t{1} << 32);
        case 1: // another size or direction
            return known[below(known.size())] ^ (below(0x10000) << 16);
        case 2:
            return _IOWR(BLK_INTERPOSER_IOC, below(256), blk_interposer_status);
        default:
            return known[below(known.size())];
        }
    }

    // Words that get past the first checks are more likely than they would be.
    void fill()
    {
        for (std::size_t i = 0; i < filled_words; i++) {
            switch (below(6)) {
            case 0:
                argument_[i] = static_cast<std::uint32_t>(random_());
                break;
            case 1:
                argument_[i] = static_cast<std::uint32_t>(fds_[below(fds_.size())].get());
                break;
            case 2:
                argument_[i] = static_cast<std::uint32_t>(below(4));
                break;
            default:
                argument_[i] = 0;
            }
        }
    }

    void call()
    {
        fill();
        const unsigned long cmd = number();
        void *address = argument_.data();
        if (below(16) == 0)
            address = reinterpret_cast<void *>(below(2) ? random_() : 0);
        if (::ioctl(control_.get(), cmd, address) != 0)
            return;
        done_++;
        created_ += cmd == BLK_INTERPOSER_CREATE;
    }

    void clean()
    {
        blk_interposer_status status = {};
        status.flags = BLK_INTERPOSER_NEXT;
        while (::ioctl(control_.get(), BLK_INTERPOSER_STATUS, &status) == 0) {
            blk_interposer_destroy destroy = {};
            destroy.id = status.id;
            if (::ioctl(control_.get(), BLK_INTERPOSER_DESTROY, &destroy) != 0)
                fail_errno(fmt::format("destroy pair {}", status.id));
            status.flags = BLK_INTERPOSER_NEXT;
        }
        created_ = 0;
    }

    std::mt19937_64 random_;
    UniqueFd control_;
    std::vector<UniqueFd> fds_;
    std::array<std::uint32_t, argument_size / sizeof(std::uint32_t)> argument_ = {};
    unsigned long done_ = 0;
    unsigned created_ = 0;
};

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2) {
        std::fprintf(stderr, "usage: blk-interposer-fuzz COUNT\n");
        return 2;
    }
    try {
        const char *given = std::getenv("LIVEBLK_SEED");
        const std::uint64_t seed = given ? std::strtoull(given, nullptr, 0) : std::random_device()();
        std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
        Fuzzer(seed).run(std::strtoul(argv[1], nullptr, 0));
        return 0;
    } catch (const std::exception &e) {
        std::fprintf(stderr, "blk-interposer-fuzz: %s\n", e.what());
        return 1;
    }
}
