// SPDX-License-Identifier: GPL-2.0-only
#include "workload.hpp"

#include "pattern.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>

namespace liveblk::test {

namespace {

constexpr std::uint64_t page = 4096;
constexpr unsigned hot_share = 70;
constexpr std::uint64_t terrain_stream = 0x7465727261696eU;

} // namespace

const char *to_string(OpKind kind)
{
    switch (kind) {
    case OpKind::read:
        return "read";
    case OpKind::write:
        return "write";
    case OpKind::write_fua:
        return "write-fua";
    case OpKind::discard:
        return "discard";
    case OpKind::zero_out:
        return "zero-out";
    case OpKind::punch_hole:
        return "punch-hole";
    case OpKind::zero_range:
        return "zero-range";
    case OpKind::flush:
        return "flush";
    case OpKind::copy:
        return "copy";
    }
    return "?";
}

bool changes_data(OpKind kind)
{
    return kind != OpKind::read && kind != OpKind::flush;
}

std::string describe(const Op &op)
{
    std::string text =
        fmt::format("job {} op {} {} {}+{} (sectors {}..{})", op.job, op.number, to_string(op.kind), op.range.offset,
                    op.range.length, op.range.offset / sector_size, op.range.end() / sector_size);
    if (op.kind == OpKind::copy)
        text += fmt::format(" from {} (sectors {}..{}){}", op.source.offset, op.source.offset / sector_size,
                            op.source.end() / sector_size, op.emulate == copy::Emulate::always ? " emulated" : "");
    return text;
}

Terrain::Terrain(const WorkloadOptions &o)
{
    Random random(combine(o.seed, terrain_stream));
    if (o.windows == 0 || o.window_size * o.windows >= o.area.length) {
        windows.push_back(o.area);
    } else {
        // The first and the last bytes of a device are where arithmetic goes wrong.
        const std::uint64_t last = (o.area.length - o.window_size) / sector_size;
        windows.push_back({o.area.offset + last * sector_size, o.window_size});
        for (unsigned i = 1; i < o.windows; i++)
            windows.push_back({o.area.offset + (i == 1 ? 0 : random.below(last) * sector_size), o.window_size});
    }
    for (unsigned i = 0; i < o.hot_spots; i++) {
        const Range &w = windows[random.below(windows.size())];
        spots.push_back(w.offset + random.below(w.length) / sector_size * sector_size);
    }
}

Workload::Workload(const WorkloadOptions &options, const Terrain &terrain, std::uint32_t job)
    : options_(options), terrain_(terrain), job_(job), random_(combine(options.seed, job))
{
}

OpKind Workload::pick_kind()
{
    const auto &mix = options_.mix;
    std::uint64_t at = random_.below(std::accumulate(mix.begin(), mix.end(), std::uint64_t{0}));
    std::size_t kind = 0;
    while (at >= mix[kind])
        at -= mix[kind++];
    switch (kind) {
    case 0:
        return OpKind::read;
    case 1:
        return random_.percent(8) ? OpKind::write_fua : OpKind::write;
    case 2:
        return OpKind::discard;
    case 3: {
        constexpr std::array ways{OpKind::zero_out, OpKind::punch_hole, OpKind::zero_range};
        return ways[random_.below(ways.size())];
    }
    case 4:
        return OpKind::flush;
    default:
        return OpKind::copy;
    }
}

// What offset and length are multiples of.
std::uint64_t Workload::pick_unit()
{
    const auto dice = random_.below(100);
    return dice < 50 ? options_.block_size : dice < 75 ? page : options_.cluster_size;
}

Range Workload::pick_range(std::uint64_t length)
{
    const Range &window = terrain_.windows[random_.below(terrain_.windows.size())];
    std::uint64_t at = window.offset + random_.below(window.length);
    if (!terrain_.spots.empty() && random_.percent(hot_share))
        at = terrain_.spots[random_.below(terrain_.spots.size())] + random_.below(4 * options_.cluster_size);
    const std::uint64_t unit = pick_unit();
    Range range{at / unit * unit, std::max(length / unit, std::uint64_t{1}) * unit};
    const Range &area = options_.area;
    range.length = std::min(range.length, area.length);
    range.offset = std::clamp(range.offset, area.offset, area.end() - range.length);
    return range;
}

Op Workload::next()
{
    Op op;
    op.job = job_;
    op.number = number_++;
    op.kind = pick_kind();
    op.range = pick_range(random_.log_uniform(options_.min_size, options_.max_size));
    op.memory_offset = static_cast<std::uint32_t>(random_.percent(30) ? random_.below(8) * sector_size : 0);
    op.vectors = static_cast<std::uint32_t>(random_.percent(30) ? random_.between(2, 8) : 1);
    // Pieces of memory must be whole blocks.
    if (options_.block_size > sector_size)
        op.vectors = 1;
    if (op.kind == OpKind::flush)
        op.range = {};
    if (op.kind == OpKind::copy)
        add_source(op);
    return op;
}

// As long as the destination; now and then the two overlap, which has to be refused.
void Workload::add_source(Op &op)
{
    const Range &area = options_.area;
    op.source = pick_range(op.range.length);
    op.source.length = op.range.length;
    op.source.offset = std::min(op.source.offset, area.end() - op.range.length);
    if (options_.emulate_percent && random_.percent(options_.emulate_percent))
        op.emulate = copy::Emulate::always;
}

} // namespace liveblk::test
