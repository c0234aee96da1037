// SPDX-License-Identifier: GPL-2.0-only
// Drives an attached device through reads, writes and discards, and compares with a view.
#pragma once

#include "image.hpp"

#include <cstdlib>
#include <memory>
#include <string>

namespace hostile {

struct FreeDeleter {
    void operator()(void *memory) const { std::free(memory); }
};
using AlignedBytes = std::unique_ptr<std::uint8_t[], FreeDeleter>;
AlignedBytes make_aligned(std::size_t size);

struct Rules {
    // No write, discard or flush may fail where the view is exact.
    bool must_write = false;
    // After the first write nothing that was there before is promised.
    bool aliases = false;
};

class Exercise {
public:
    Exercise(const std::string &device, std::uint64_t cluster, View view, Rules rules, bool read_only);

    // Reads everything, and compares.
    void read_all();
    // Changes parts of everything in all the ways, with reads in between.
    void change_all();
    // A device attached for reading only takes no write.
    void refuse_writes();

    void close() { fd_ = Fd(); }

    // What the image must hold after the device is gone.
    const View &view() const { return view_; }
    bool flush_failed() const { return flush_failed_; }
    std::uint64_t failed_reads() const { return failed_reads_; }
    const std::vector<std::string> &problems() const { return problems_; }

private:
    std::vector<std::uint64_t> interesting_clusters() const;
    void write_parts(std::uint64_t round, std::uint64_t every);
    void zero_parts();
    void discard_parts();
    void discard_everything();
    void write(std::uint64_t sector, std::uint64_t count, std::uint64_t tag);
    void clear(std::uint64_t sector, std::uint64_t count, unsigned long request);
    void flush();
    void settle(std::uint64_t sector, std::uint64_t count, bool done, int error, const char *what);
    bool any_fails(std::uint64_t sector, std::uint64_t count) const;
    bool all_exact(std::uint64_t sector, std::uint64_t count) const;
    void read_piece(std::uint64_t sector, std::uint64_t count);
    void compare(std::uint64_t sector, std::uint64_t count);
    void problem(const std::string &text);

    Fd fd_;
    std::uint64_t cluster_;
    View view_;
    Rules rules_;
    AlignedBytes buffer_;
    bool flush_failed_ = false;
    std::uint64_t failed_reads_ = 0;
    std::string phase_ = "first";
    std::vector<std::string> problems_;
};

} // namespace hostile
