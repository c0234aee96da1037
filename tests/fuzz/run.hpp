// SPDX-License-Identifier: GPL-2.0-only
// Attaches cases one by one and compares what comes of them with what should.
#pragma once

#include "cases.hpp"

namespace hostile {

struct Place {
    // A directory on a file system with direct I/O.
    std::string directory;
    // Empty, or the block device that images are written to in place of files.
    std::string block_device;
    bool on_block_device() const { return !block_device.empty(); }
};

struct RunOptions {
    Place place;
    std::string only;      // an expression that names must match
    std::size_t every = 1; // of those that match, one in so many,
    std::size_t first = 0; // beginning with this one
    std::string log;       // one line for each case, with what the kernel said
    unsigned step_seconds = 60;
};

struct MutateOptions {
    Place place;
    std::uint64_t seed = 1;
    std::uint64_t first = 0;
    std::uint64_t count = 50;
    std::string log;
    unsigned step_seconds = 60;
};

int run_cases(const RunOptions &options);
int run_mutations(const MutateOptions &options);

// An image where the target can take it: a file, or a device of its length.
class PlacedImage {
public:
    PlacedImage(const Place &place, const Bytes &bytes);
    PlacedImage(const PlacedImage &) = delete;
    PlacedImage &operator=(const PlacedImage &) = delete;
    ~PlacedImage();

    const std::string &path() const { return path_; }
    // What lies there now.
    Bytes read() const;
    bool holds(const Bytes &bytes) const;
    std::uint64_t length_now() const;

private:
    std::string path_;
    std::string device_;
    std::uint64_t length_ = 0;
};

// Lines of the log that come from the target or name it.
std::vector<std::string> target_lines(const std::vector<std::string> &lines);

} // namespace hostile
