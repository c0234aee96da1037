// SPDX-License-Identifier: GPL-2.0-only
// copy-reader-into-mapping LOWER UPPER SECONDS: reads LOWER, through its page cache, into memory that is mapped from
// UPPER, a device that is stored on it. Each page has to be read from UPPER first, in the middle of the read of LOWER:
// locks of the two page caches are taken in an order that is not that of a copy. Prints how often it did so.
#include "base/error.hpp"
#include "base/unique_fd.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>

using namespace liveblk;

namespace {

constexpr std::size_t length = 1 << 20;

UniqueFd open_device(const std::string &path)
{
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd)
        fail_errno(fmt::format("open '{}'", path));
    return fd;
}

unsigned read_for(const UniqueFd &lower, const UniqueFd &upper, std::chrono::seconds time)
{
    const auto end = std::chrono::steady_clock::now() + time;
    unsigned rounds = 0;
    void *const map = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, upper.get(), 0);
    if (map == MAP_FAILED)
        fail_errno("map the upper device");
    for (; std::chrono::steady_clock::now() < end; rounds++) {
        // What was read is a private copy: without it, and without the page cache, each page is read again.
        if (::madvise(map, length, MADV_DONTNEED) != 0)
            fail_errno("forget the mapping");
        if (const int error = ::posix_fadvise(upper.get(), 0, length, POSIX_FADV_DONTNEED))
            fail("forget the page cache: error {}", error);
        if (::pread(lower.get(), map, length, 0) != static_cast<ssize_t>(length))
            fail_errno("read the lower device");
    }
    ::munmap(map, length);
    return rounds;
}

} // namespace

int main(int argc, char **argv)
{
    try {
        if (argc != 4)
            fail("usage: copy-reader-into-mapping LOWER UPPER SECONDS");
        fmt::print("{} rounds\n",
                   read_for(open_device(argv[1]), open_device(argv[2]), std::chrono::seconds(std::stoul(argv[3]))));
        return 0;
    } catch (const std::exception &e) {
        fmt::print(stderr, "copy-reader-into-mapping: {}\n", e.what());
        return 1;
    }
}
