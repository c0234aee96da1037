// SPDX-License-Identifier: GPL-2.0-only
#include "image_check.hpp"

#include "device_mapper.hpp"
#include "error.hpp"
#include "guest_file.hpp"
#include "mount.hpp"
#include "oracle/bitmaps.hpp"
#include "process.hpp"

#include <fmt/core.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace liveblk::crash {
namespace {

constexpr std::size_t chunk_size = 1 << 20;
constexpr std::size_t write_unit = 4096;
constexpr std::size_t findings_shown = 5;

// Collects what is wrong, and says so once at the end.
class Findings {
public:
    void add(std::string text)
    {
        if (count_++ < findings_shown)
            text_ += "\n    " + text;
    }

    void throw_if_any(const std::string &where) const
    {
        if (count_)
            throw Corruption(fmt::format("{}: {} bad sectors:{}", where, count_, text_));
    }

private:
    std::size_t count_ = 0;
    std::string text_;
};

void read_fully(int fd, std::byte *to, std::size_t length, std::uint64_t offset, const std::string &path)
{
    while (length) {
        const ssize_t n = ::pread(fd, to, length, static_cast<off_t>(offset));
        if (n <= 0)
            throw Corruption(fmt::format("read {} bytes at {} of {}: {}", length, offset, path,
                                         n ? std::strerror(errno) : "end of device"));
        to += n;
        offset += static_cast<std::uint64_t>(n);
        length -= static_cast<std::size_t>(n);
    }
}

void write_changes(const test::BlockTarget &target, std::span<const std::byte> chunk, std::uint64_t at,
                   test::AlignedBuffer &old)
{
    for (std::size_t from = 0; from < chunk.size(); from += write_unit) {
        const std::size_t length = std::min(write_unit, chunk.size() - from);
        if (std::memcmp(chunk.data() + from, old.data() + from, length) == 0)
            continue;
        std::memcpy(old.data() + from, chunk.data() + from, length);
        const ssize_t n =
            ::pwrite(target.fd(target.has_direct()), old.data() + from, length, static_cast<off_t>(at + from));
        if (n != static_cast<ssize_t>(length))
            test::throw_errno(fmt::format("write {} bytes at {} of {}", length, at + from, target.path()));
    }
}

} // namespace

ImageCheck::ImageCheck(CheckOptions options)
    : options_(std::move(options)), target_(options_.target), buffer_(chunk_size)
{
}

void ImageCheck::check(std::span<const std::byte> device, const Oracle &oracle)
{
    points_++;
    if (options_.raw && options_.lower_fs.empty())
        return check_raw(device, oracle);
    put_on_target(device);
    if (options_.lower_fs.empty())
        return check_image(options_.target, oracle);
    try {
        Mount lower(options_.target, options_.lower_mount, options_.lower_fs);
        check_image(options_.lower_mount + "/" + options_.image_name, oracle);
        lower.unmount();
    } catch (const std::system_error &error) {
        throw Corruption(error.what());
    }
}

// The target may have been changed by whoever attached it, so that it is compared and not remembered.
void ImageCheck::put_on_target(std::span<const std::byte> device)
{
    if (!target_.is_device() && ::ftruncate(target_.fd(false), static_cast<off_t>(device.size())))
        test::throw_errno("resize " + target_.path());
    if (target_.is_device() && target_.size() < device.size())
        throw std::runtime_error(fmt::format("{} is smaller than the logged device", target_.path()));
    for (std::size_t at = 0; at < device.size(); at += chunk_size) {
        const auto chunk = device.subspan(at, std::min(chunk_size, device.size() - at));
        read_fully(target_.fd(target_.has_direct()), buffer_.data(), chunk.size(), at, target_.path());
        write_changes(target_, chunk, at, buffer_);
    }
    target_.drop_cache();
}

void ImageCheck::check_raw(std::span<const std::byte> device, const Oracle &oracle) const
{
    Findings findings;
    if (device.size() < oracle.sectors() * test::sector_size)
        throw Corruption(
            fmt::format("there are only {} of {} sectors", device.size() / test::sector_size, oracle.sectors()));
    for (std::uint64_t s = 0; s < oracle.sectors(); s++)
        if (auto text = oracle.judge(s, device.subspan(s * test::sector_size, test::sector_size)))
            findings.add(std::move(*text));
    findings.throw_if_any(options_.lower_fs.empty() ? "raw device" : "file");
}

void ImageCheck::read_file(const std::string &path, std::vector<std::byte> &content)
{
    const bool direct = target_.is_device() && options_.lower_fs.empty();
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0)));
    if (!fd)
        throw Corruption(fmt::format("open the image {}: {}", path, std::strerror(errno)));
    const off_t size = ::lseek(fd.get(), 0, SEEK_END);
    if (size < 0)
        test::throw_errno("find the size of " + path);
    content.resize(static_cast<std::size_t>(size));
    for (std::size_t at = 0; at < content.size(); at += chunk_size) {
        const std::size_t length = std::min(chunk_size, content.size() - at);
        read_fully(fd.get(), buffer_.data(), length, at, path);
        std::memcpy(content.data() + at, buffer_.data(), length);
    }
}

void ImageCheck::check_image(const std::string &image, const Oracle &oracle)
{
    read_file(image, image_);
    if (!options_.data_name.empty())
        read_file(data_path(), data_);
    if (options_.raw)
        return check_raw(image_, oracle);
    std::optional<oracle::Reader> reader;
    try {
        if (options_.data_name.empty())
            reader.emplace(image_);
        else
            reader.emplace(image_, data_);
        if (!reader->plain())
            throw std::runtime_error("it has features that the crash workloads do not use");
        if (options_.guest_fs.empty())
            check_content(*reader, oracle);
        if (options_.bitmaps)
            check_bitmaps(*reader, oracle);
    } catch (const Corruption &) {
        throw;
    } catch (const std::exception &error) {
        throw Corruption(fmt::format("read the image: {}", error.what()));
    }
    if (reader->dirty())
        qemu_check(image, true);
    qemu_check(image, false);
    if (options_.attach.empty())
        return;
    check_attached(image, *reader, oracle);
    if (points_ % options_.recheck_every == 0)
        qemu_check(image, false);
}

namespace {

// Those that have to be there, and are.
std::vector<oracle::Snapshot> expected_snapshots(const oracle::Reader &reader, const Oracle &promised)
{
    std::vector<oracle::Snapshot> expected;
    const auto found = reader.snapshots();
    for (const std::string &name : promised.snapshots()) {
        const auto it = std::find_if(found.begin(), found.end(), [&](const auto &s) { return s.name == name; });
        if (it == found.end())
            throw Corruption("snapshot " + name + " is gone");
        expected.push_back(*it);
    }
    return expected;
}

} // namespace

void ImageCheck::check_content(const oracle::Reader &reader, const Oracle &oracle) const
{
    static constexpr std::array<std::byte, test::sector_size> zeros{};
    Findings findings;
    const auto judge = [&](std::optional<std::string> text) {
        if (text)
            findings.add(std::move(*text));
    };
    const auto content = [&](std::span<const std::byte> sector) {
        return sector.empty() ? std::span<const std::byte>(zeros) : sector;
    };
    const auto snapshots = expected_snapshots(reader, oracle);
    for (std::uint64_t s = 0; s < oracle.sectors(); s++) {
        judge(oracle.judge(s, content(reader.sector(s))));
        for (const auto &snapshot : snapshots)
            judge(oracle.judge_snapshot(snapshot.name, s, content(reader.sector(snapshot.l1, s))));
    }
    findings.throw_if_any("image");
}

// Never a change missing in a bitmap that is called good. What a crash takes back may be in it.
void ImageCheck::check_bitmaps(const oracle::Reader &reader, const Oracle &oracle)
{
    const auto bitmaps = oracle::read_bitmaps(image_, reader);
    if (bitmaps.size() != options_.bitmaps)
        throw Corruption(fmt::format("there are {} bitmaps, not {}", bitmaps.size(), options_.bitmaps));
    Findings findings;
    for (const oracle::Bitmap &bitmap : bitmaps) {
        if (bitmap.in_use())
            continue;
        good_bitmaps_++;
        for (std::uint64_t s = 0; s < oracle.sectors(); s++) {
            const auto content = reader.sector(s);
            const bool changed = oracle.surely_changed(s) || !(content.empty() || test::is_zero(content));
            if (changed && !bitmap.marked(s * test::sector_size))
                findings.add(fmt::format("sector {} was changed, which bitmap {} does not say", s, bitmap.name()));
        }
    }
    findings.throw_if_any("bitmaps");
}

void ImageCheck::qemu_check(const std::string &image, bool repair) const
{
    const bool direct = target_.is_device();
    std::vector<std::string> command{"qemu-img", "check", "-q", "-f", "qcow2", "-T", direct ? "none" : "writeback"};
    if (repair)
        command.insert(command.end(), {"-r", "all"});
    command.push_back(image);
    const ProcessResult result = run_process(command);
    constexpr int leaks = 3;
    constexpr int inconsistent = 2;
    if (result.status == 0 || (!repair && result.status == leaks))
        return;
    const std::string text =
        fmt::format("qemu-img check{} exits with {}: {}", repair ? " -r all" : "", result.status, result.output);
    if (result.status == inconsistent || result.status == 1 || result.status == leaks)
        throw Corruption(text);
    throw std::runtime_error(text);
}

void ImageCheck::check_attached(const std::string &image, const oracle::Reader &reader, const Oracle &oracle)
{
    try {
        const std::string data = options_.data_name.empty() ? "" : " 2 data_file " + data_path();
        MappedDevice device(options_.attach, reader.size() / test::sector_size, "qcow2", image + data);
        if (options_.guest_fs.empty())
            check_device(device.path(), reader);
        else
            check_guest_files(device.path(), oracle);
        device.remove();
    } catch (const std::system_error &error) {
        throw Corruption(fmt::format("attach again: {}", error.what()));
    }
}

// The module has to see what the reader saw, which has been found good.
void ImageCheck::check_device(const std::string &path, const oracle::Reader &reader)
{
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (!fd)
        test::throw_errno("open " + path);
    Findings findings;
    for (std::uint64_t at = 0; at < reader.size(); at += chunk_size) {
        const std::size_t length = std::min<std::uint64_t>(chunk_size, reader.size() - at);
        read_fully(fd.get(), buffer_.data(), length, at, path);
        for (std::size_t from = 0; from < length; from += test::sector_size) {
            const std::uint64_t number = (at + from) / test::sector_size;
            const auto expected = reader.sector(number);
            const auto found = buffer_.span(from, test::sector_size);
            const bool same =
                expected.empty() ? test::is_zero(found) : std::memcmp(expected.data(), found.data(), found.size()) == 0;
            if (!same)
                findings.add(fmt::format("sector {}: the image holds {}; the device gives {}", number,
                                         expected.empty() ? "zeros" : test::describe_sector(expected),
                                         test::describe_sector(found)));
        }
    }
    findings.throw_if_any("attached device");
}

void ImageCheck::check_guest_files(const std::string &path, const Oracle &oracle) const
{
    Mount guest(path, options_.guest_mount, options_.guest_fs);
    for (const auto &[number, size] : oracle.files()) {
        const std::string name = options_.guest_mount + "/" + guest_file_name(number);
        const auto expected = guest_file_content(oracle.history().seed, number, size);
        std::vector<std::byte> found(size);
        std::ifstream in(name, std::ios::binary);
        in.read(reinterpret_cast<char *>(found.data()), static_cast<std::streamsize>(size));
        if (!in)
            throw Corruption(fmt::format("{} was fsynced with {} bytes and has only {}", name, size, in.gcount()));
        if (found != expected)
            throw Corruption(fmt::format("{} was fsynced with {} bytes and holds something else", name, size));
    }
    guest.unmount();
    const std::string checker = options_.guest_fs == "ext4" ? "e2fsck" : "xfs_repair";
    const std::string flags = options_.guest_fs == "ext4" ? "-fn" : "-n";
    const ProcessResult fsck = run_process({checker, flags, path});
    if (fsck.status)
        throw Corruption(fmt::format("{} exits with {}: {}", checker, fsck.status, fsck.output));
}

} // namespace liveblk::crash
