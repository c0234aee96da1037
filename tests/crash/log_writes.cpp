// SPDX-License-Identifier: GPL-2.0-only
#include "log_writes.hpp"

#include "error.hpp"

#include <fmt/core.h>

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <stdexcept>

namespace liveblk::crash {

WriteLog::WriteLog(const std::string &path) : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC))
{
    if (!fd_)
        test::throw_errno("open log " + path);
    std::array<std::byte, sizeof(LogSuper)> raw;
    read(0, raw.data(), raw.size());
    const auto super = load<LogSuper>(raw, 0);
    if (super.magic.value() != LogSuper::magic_value || super.version.value() != 1)
        throw std::runtime_error(fmt::format("log {}: not a log of dm-log-writes version 1", path));
    const std::uint32_t sector_size = super.sector_size.value();
    if (sector_size != 512 && sector_size != 4096)
        throw std::runtime_error(fmt::format("log {}: sector size {} is not supported", path, sector_size));

    std::uint64_t at = sector_size;
    for (std::uint64_t i = 0; i < super.entry_count.value(); i++) {
        LogEntry entry = parse_entry(at, sector_size);
        at += sector_size + (entry.is_write() ? entry.length : 0);
        entries_.push_back(std::move(entry));
    }
}

LogEntry WriteLog::parse_entry(std::uint64_t at, std::uint32_t sector_size) const
{
    std::array<std::byte, sizeof(LogEntryHeader)> raw;
    read(at, raw.data(), raw.size());
    const auto header = load<LogEntryHeader>(raw, 0);
    LogEntry entry;
    entry.offset = header.sector.value() * sector_size;
    entry.length = header.sector_count.value() * sector_size;
    entry.flags = header.flags.value();
    entry.data_offset = at + sector_size;
    constexpr std::uint64_t known = log_flush | log_fua | log_discard | log_mark | log_metadata;
    if (entry.flags & ~known)
        throw std::runtime_error(
            fmt::format("log {}: unknown flags {:#x} in the entry at byte {}", path_, entry.flags, at));
    if (entry.is_mark()) {
        const std::uint64_t length = header.data_length.value();
        if (length > sector_size - sizeof(LogEntryHeader))
            throw std::runtime_error(fmt::format("log {}: mark of {} bytes at byte {}", path_, length, at));
        std::vector<std::byte> text(length);
        read(at + sizeof(LogEntryHeader), text.data(), text.size());
        entry.mark.assign(reinterpret_cast<const char *>(text.data()), text.size());
    }
    // Device-mapper sends a flush and its data apart; a log that says otherwise would be replayed wrongly.
    if (entry.is_flush() && entry.length)
        throw std::runtime_error(fmt::format("log {}: flush with data at byte {}", path_, at));
    return entry;
}

void WriteLog::read(std::uint64_t offset, std::byte *to, std::size_t length) const
{
    while (length) {
        const ssize_t n = ::pread(fd_.get(), to, length, static_cast<off_t>(offset));
        if (n < 0)
            test::throw_errno(fmt::format("read {} bytes at {} of log {}", length, offset, path_));
        if (n == 0)
            throw std::runtime_error(fmt::format("log {} ends at {}, inside an entry", path_, offset));
        to += n;
        offset += static_cast<std::uint64_t>(n);
        length -= static_cast<std::size_t>(n);
    }
}

std::vector<std::byte> WriteLog::data(const LogEntry &entry) const
{
    std::vector<std::byte> bytes(entry.is_write() ? entry.length : 0);
    read(entry.data_offset, bytes.data(), bytes.size());
    return bytes;
}

} // namespace liveblk::crash
