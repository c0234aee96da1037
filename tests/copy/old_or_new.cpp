// SPDX-License-Identifier: GPL-2.0-only
// copy-old-or-new DEVICE OFFSET OLD NEW [DONE]: after a copy that failed, every 4 KiB block of the device from OFFSET
// on is that of OLD or that of NEW, two files of one length; the first DONE bytes are those of NEW. Prints how many
// blocks of each there are.
#include "base/error.hpp"
#include "base/unique_fd.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

using namespace liveblk;

namespace {

constexpr std::size_t block = 4096;

std::vector<char> content(const std::string &path)
{
    std::ifstream file(path, std::ios::binary);
    if (!file)
        fail_errno(fmt::format("open '{}'", path));
    return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<char> read_device(const std::string &path, off_t offset, std::size_t length)
{
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd)
        fail_errno(fmt::format("open '{}'", path));
    std::vector<char> data(length);
    for (std::size_t at = 0; at < length;) {
        const ssize_t got = ::pread(fd.get(), data.data() + at, length - at, offset + static_cast<off_t>(at));
        if (got <= 0)
            fail_errno(fmt::format("read '{}' at {}", path, static_cast<std::uint64_t>(offset) + at));
        at += static_cast<std::size_t>(got);
    }
    return data;
}

void compare(const std::vector<char> &seen, const std::vector<char> &old, const std::vector<char> &fresh,
             std::size_t done)
{
    std::size_t olds = 0, news = 0;
    if (old.size() != fresh.size() || done > old.size())
        fail("compare: files of {} and {} bytes, {} of them done", old.size(), fresh.size(), done);
    if (!std::equal(fresh.begin(), fresh.begin() + static_cast<std::ptrdiff_t>(done), seen.begin()))
        fail("compare: not all of the first {} bytes are copied", done);
    for (std::size_t at = done; at < seen.size();) {
        const std::size_t end = std::min(seen.size(), (at / block + 1) * block);
        const auto is = [&](const std::vector<char> &other) {
            return std::equal(seen.begin() + static_cast<std::ptrdiff_t>(at),
                              seen.begin() + static_cast<std::ptrdiff_t>(end),
                              other.begin() + static_cast<std::ptrdiff_t>(at));
        };
        if (is(old))
            olds++;
        else if (is(fresh))
            news++;
        else
            fail("compare: what is at {} is neither old nor new", at);
        at = end;
    }
    fmt::print("{} bytes done, {} blocks old, {} new\n", done, olds, news);
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 5 && argc != 6) {
        std::fprintf(stderr, "usage: copy-old-or-new DEVICE OFFSET OLD NEW [DONE]\n");
        return 2;
    }
    try {
        const std::vector<char> old = content(argv[3]);
        const std::vector<char> fresh = content(argv[4]);
        const std::size_t done = argc == 6 ? std::strtoull(argv[5], nullptr, 10) : 0;
        compare(read_device(argv[1], static_cast<off_t>(std::strtoull(argv[2], nullptr, 10)), old.size()), old, fresh,
                done);
        return 0;
    } catch (const std::exception &e) {
        std::fprintf(stderr, "copy-old-or-new: %s\n", e.what());
        return 1;
    }
}
