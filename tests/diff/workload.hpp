// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "copier.hpp"
#include "random.hpp"
#include "range.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace liveblk::test {

enum class OpKind { read, write, write_fua, discard, zero_out, punch_hole, zero_range, flush, copy };
inline constexpr std::size_t op_kinds = 9;

const char *to_string(OpKind kind);
bool changes_data(OpKind kind);

// One operation of one job; everything about it comes from the seed.
struct Op {
    OpKind kind = OpKind::read;
    Range range;
    Range source; // of a copy
    copy::Emulate emulate = copy::Emulate::automatic;
    std::uint64_t number = 0;
    std::uint32_t job = 0;
    std::uint32_t memory_offset = 0; // of the buffer, bytes
    std::uint32_t vectors = 1;       // pieces that the buffer is handed over in
};

std::string describe(const Op &op);

struct WorkloadOptions {
    std::uint64_t seed = 0;
    std::uint64_t device_size = 0;
    std::uint64_t cluster_size = 65536;
    std::uint64_t block_size = 512; // what everything is a multiple of
    std::uint64_t min_size = 512;
    std::uint64_t max_size = std::uint64_t{4} << 20;
    Range area;           // where operations stay; length 0: the whole device
    unsigned windows = 0; // 0: the whole area
    std::uint64_t window_size = std::uint64_t{8} << 20;
    unsigned hot_spots = 6;
    // Shares of read, write, discard, write-zeroes (of three kinds), flush and copy; any sum.
    std::array<unsigned, 6> mix{40, 40, 7, 9, 4, 0};
    unsigned emulate_percent = 20; // of copies: by reading and writing
};

// The parts of the device that operations touch, and the places in them that are hit often.
struct Terrain {
    explicit Terrain(const WorkloadOptions &options);

    std::vector<Range> windows;
    std::vector<std::uint64_t> spots;
};

// The endless sequence of operations of one job.
class Workload {
public:
    Workload(const WorkloadOptions &options, const Terrain &terrain, std::uint32_t job);

    Op next();

private:
    OpKind pick_kind();
    std::uint64_t pick_unit();
    Range pick_range(std::uint64_t length);
    void add_source(Op &op);

    const WorkloadOptions &options_;
    const Terrain &terrain_;
    std::uint32_t job_;
    std::uint64_t number_ = 0;
    Random random_;
};

} // namespace liveblk::test
