// SPDX-License-Identifier: GPL-2.0-only
#include "exercise.hpp"

#include "watchdog.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/fs.h>
#include <new>
#include <sys/ioctl.h>
#include <unistd.h>

namespace hostile {

namespace {

constexpr std::size_t memory_alignment = 4096;
constexpr std::uint64_t chunk_sectors = 512;
constexpr std::uint64_t piece_sectors = 8;
constexpr std::size_t most_problems = 6;

bool is_io_error(int error)
{
    return error == EIO || error == EOPNOTSUPP || error == ENOSPC || error == EPERM || error == EROFS ||
           error == EACCES;
}

off_t byte_offset(std::uint64_t sector)
{
    return static_cast<off_t>(sector * sector_size);
}

} // namespace

AlignedBytes make_aligned(std::size_t size)
{
    void *memory = std::aligned_alloc(memory_alignment, size);
    if (!memory)
        throw std::bad_alloc();
    return AlignedBytes(static_cast<std::uint8_t *>(memory));
}

Exercise::Exercise(const std::string &device, std::uint64_t cluster, View view, Rules rules, bool read_only)
    : fd_(open_or_throw(device, (read_only ? O_RDONLY : O_RDWR) | O_DIRECT)),
      cluster_(cluster),
      view_(std::move(view)),
      rules_(rules),
      buffer_(make_aligned(std::max(chunk_sectors * sector_size, cluster)))
{
}

void Exercise::problem(const std::string &text)
{
    if (problems_.size() < most_problems)
        problems_.push_back(phase_ + ": " + text);
}

bool Exercise::any_fails(std::uint64_t sector, std::uint64_t count) const
{
    auto begin = view_.want.begin() + static_cast<std::ptrdiff_t>(sector);
    return std::find(begin, begin + static_cast<std::ptrdiff_t>(count), Want::fails) !=
           begin + static_cast<std::ptrdiff_t>(count);
}

bool Exercise::all_exact(std::uint64_t sector, std::uint64_t count) const
{
    auto begin = view_.want.begin() + static_cast<std::ptrdiff_t>(sector);
    return std::all_of(begin, begin + static_cast<std::ptrdiff_t>(count), [](Want w) { return w == Want::exact; });
}

void Exercise::compare(std::uint64_t sector, std::uint64_t count)
{
    for (std::uint64_t i = 0; i < count; i++) {
        std::uint64_t at = sector + i;
        if (view_.want[at] == Want::fails) {
            problem("sector " + std::to_string(at) + " is corrupt and can be read");
            return;
        }
        if (view_.want[at] == Want::exact &&
            std::memcmp(buffer_.get() + i * sector_size, view_.bytes.data() + at * sector_size, sector_size) != 0) {
            problem("sector " + std::to_string(at) + " has wrong content");
            return;
        }
    }
}

// Down to single sectors where a read fails, so that only the corrupt ones may.
void Exercise::read_piece(std::uint64_t sector, std::uint64_t count)
{
    ssize_t n = pread(fd_.get(), buffer_.get(), count * sector_size, byte_offset(sector));
    if (n == static_cast<ssize_t>(count * sector_size)) {
        compare(sector, count);
        return;
    }
    int error = n < 0 ? errno : EIO;
    failed_reads_++;
    if (!is_io_error(error))
        problem("read of sector " + std::to_string(sector) + ": " + std::strerror(error));
    if (all_exact(sector, count))
        problem("read of sector " + std::to_string(sector) + "+" + std::to_string(count) +
                " fails: " + std::strerror(error));
    if (count == 1)
        return;
    auto begin = view_.want.begin() + static_cast<std::ptrdiff_t>(sector);
    bool mixed = std::find(begin, begin + static_cast<std::ptrdiff_t>(count), Want::exact) !=
                 begin + static_cast<std::ptrdiff_t>(count);
    // One sector stands for a piece that is corrupt as a whole.
    if (!mixed && count <= chunk_sectors) {
        read_piece(sector, 1);
        return;
    }
    std::uint64_t step = count > piece_sectors ? piece_sectors : 1;
    for (std::uint64_t at = 0; at < count; at += step)
        read_piece(sector + at, std::min(step, count - at));
}

void Exercise::read_all()
{
    for (std::uint64_t at = 0; at < view_.sectors(); at += chunk_sectors)
        read_piece(at, std::min(chunk_sectors, view_.sectors() - at));
}

// The places that have something, and some that have nothing.
std::vector<std::uint64_t> Exercise::interesting_clusters() const
{
    std::uint64_t clusters = view_.bytes.size() / cluster_;
    std::uint64_t per_table = cluster_ / format::entry_size;
    std::vector<std::uint64_t> list;
    for (std::uint64_t k = 0; k < clusters; k++)
        if (k % per_table < 26 || k % 97 == 0 || k + 1 == clusters)
            list.push_back(k);
    return list;
}

// Notes what the outcome of a change means for the sectors.
void Exercise::settle(std::uint64_t sector, std::uint64_t count, bool done, int error, const char *what)
{
    if (done)
        return;
    const std::string place = std::string(what) + " of sector " + std::to_string(sector) + "+" + std::to_string(count);
    if (!is_io_error(error))
        problem(place + ": " + std::strerror(error));
    if (rules_.must_write && all_exact(sector, count))
        problem(place + " fails: " + std::strerror(error));
    for (std::uint64_t s = sector; s < sector + count; s++)
        if (view_.want[s] == Want::exact)
            view_.want[s] = Want::any;
}

void Exercise::write(std::uint64_t sector, std::uint64_t count, std::uint64_t tag)
{
    std::size_t length = count * sector_size;
    fill_pattern({buffer_.get(), length}, tag);
    ssize_t n = pwrite(fd_.get(), buffer_.get(), length, byte_offset(sector));
    bool done = n == static_cast<ssize_t>(length);
    settle(sector, count, done, n < 0 ? errno : EIO, "write");
    if (!done)
        return;
    if (any_fails(sector, count))
        problem("sector " + std::to_string(sector) + " is corrupt and can be written");
    std::memcpy(view_.bytes.data() + sector * sector_size, buffer_.get(), length);
    if (rules_.aliases)
        view_.set(sector, count, Want::any);
}

void Exercise::clear(std::uint64_t sector, std::uint64_t count, unsigned long request)
{
    std::uint64_t range[2] = {sector * sector_size, count * sector_size};
    bool done = ioctl(fd_.get(), request, range) == 0;
    settle(sector, count, done, errno, request == BLKDISCARD ? "discard" : "zeroing");
    if (!done)
        return;
    std::memset(view_.bytes.data() + sector * sector_size, 0, count * sector_size);
    for (std::uint64_t s = sector; s < sector + count; s++)
        if (view_.want[s] == Want::fails)
            view_.want[s] = Want::any;
}

void Exercise::flush()
{
    if (fsync(fd_.get()) == 0)
        return;
    flush_failed_ = true;
    if (rules_.must_write || !is_io_error(errno))
        problem(std::string("flush: ") + std::strerror(errno));
}

// Whole clusters, heads, middles and tails.
void Exercise::write_parts(std::uint64_t round, std::uint64_t every)
{
    std::uint64_t sectors = cluster_ / sector_size;
    for (std::uint64_t k : interesting_clusters()) {
        if (k % every)
            continue;
        std::uint64_t first = k * sectors;
        std::uint64_t tag = round << 32 | (k + 1);
        switch ((k + round) % 4) {
        case 0:
            write(first, sectors, tag);
            break;
        case 1:
            write(first, 1, tag);
            break;
        case 2:
            write(first + 1, 2, tag);
            break;
        default:
            write(first + sectors - 1, 1, tag);
        }
    }
}

void Exercise::zero_parts()
{
    std::uint64_t sectors = cluster_ / sector_size;
    for (std::uint64_t k : interesting_clusters())
        if (k % 5 == 0)
            clear(k * sectors + 1, 2, BLKZEROOUT);
}

void Exercise::discard_parts()
{
    std::uint64_t sectors = cluster_ / sector_size;
    for (std::uint64_t k : interesting_clusters())
        if (k % 5 == 1)
            clear(k * sectors, sectors, BLKDISCARD);
}

void Exercise::discard_everything()
{
    clear(0, view_.sectors(), BLKDISCARD);
}

void Exercise::change_all()
{
    const auto phase = [this](const char *name) {
        phase_ = name;
        begin_step(name);
    };
    if (rules_.aliases)
        view_.set(0, view_.sectors(), Want::any);
    phase("write");
    write_parts(1, 1);
    flush();
    read_all();
    phase("clear");
    zero_parts();
    discard_parts();
    read_all();
    phase("write again");
    write_parts(2, 1);
    flush();
    read_all();
    phase("discard everything");
    discard_everything();
    flush();
    read_all();
    phase("last write");
    write_parts(3, 3);
    flush();
    phase_ = "last read";
    read_all();
}

void Exercise::refuse_writes()
{
    phase_ = "read-only";
    fill_pattern({buffer_.get(), sector_size}, 1);
    if (pwrite(fd_.get(), buffer_.get(), sector_size, 0) >= 0)
        problem("a write through a read-only descriptor works");
}

} // namespace hostile
