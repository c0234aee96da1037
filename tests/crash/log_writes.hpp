// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/unique_fd.hpp"
#include "on_disk.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace liveblk::crash {

// What dm-log-writes puts on its log device.
struct LogSuper {
    static constexpr std::uint64_t magic_value = 0x6a736677736872;

    Le64 magic;
    Le64 version;
    Le64 entry_count;
    Le32 sector_size;
};

struct LogEntryHeader {
    Le64 sector;
    Le64 sector_count;
    Le64 flags;
    Le64 data_length;
};

static_assert(sizeof(LogSuper) == 28);
static_assert(sizeof(LogEntryHeader) == 32);

enum LogFlag : std::uint64_t {
    log_flush = 1,
    log_fua = 2,
    log_discard = 4,
    log_mark = 8,
    log_metadata = 16,
};

// One logged request, in bytes.
struct LogEntry {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    std::uint64_t flags = 0;
    std::uint64_t data_offset = 0;
    std::string mark;

    bool is(LogFlag flag) const { return (flags & flag) != 0; }
    bool is_flush() const { return is(log_flush); }
    bool is_mark() const { return is(log_mark); }
    bool is_discard() const { return is(log_discard); }
    bool is_write() const { return length != 0 && !is_discard(); }
    // Durable by itself as soon as it is in the log.
    bool is_immediate() const { return is(log_fua); }
    bool changes_device() const { return length != 0; }
};

// The log of one run, on a block device or in a file.
class WriteLog {
public:
    explicit WriteLog(const std::string &path);

    const std::vector<LogEntry> &entries() const { return entries_; }
    std::vector<std::byte> data(const LogEntry &entry) const;

private:
    void read(std::uint64_t offset, std::byte *to, std::size_t length) const;
    LogEntry parse_entry(std::uint64_t at, std::uint32_t sector_size) const;

    std::string path_;
    UniqueFd fd_;
    std::vector<LogEntry> entries_;
};

} // namespace liveblk::crash
