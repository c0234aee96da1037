// SPDX-License-Identifier: GPL-2.0-only
#include "oracle/bitmaps.hpp"

namespace liveblk::oracle {

using namespace format;

namespace {

constexpr std::uint64_t all_ones = 1; // as an entry of a bitmap table

// Where the content of the bitmaps extension begins.
std::optional<std::uint64_t> find_extension(std::span<const std::byte> image)
{
    std::uint64_t at = get<std::uint32_t>(image, h_header_length);
    for (;;) {
        const auto type = get<std::uint32_t>(image, at);
        const auto length = get<std::uint32_t>(image, at + 4);
        if (type == ext_bitmaps)
            return at + 8;
        if (type == ext_end)
            return std::nullopt;
        at += 8 + (std::uint64_t{length} + 7) / 8 * 8;
    }
}

} // namespace

Bitmap::Bitmap(std::span<const std::byte> image, std::uint64_t cluster_size, std::uint64_t entry)
    : image_(image),
      cluster_size_(cluster_size),
      flags_(get<std::uint32_t>(image, entry + b_flags)),
      granularity_bits_(get<std::uint8_t>(image, entry + b_granularity_bits)),
      table_{get<std::uint64_t>(image, entry + b_table_offset), get<std::uint32_t>(image, entry + b_table_size)}
{
    const std::uint64_t name_at = entry + b_name + get<std::uint32_t>(image, entry + b_extra_size);
    const std::uint64_t name_length = get<std::uint16_t>(image, entry + b_name_size);
    check_bounds("get", name_length, image.size(), name_at);
    const auto name = image.subspan(name_at, name_length);
    name_.assign(reinterpret_cast<const char *>(name.data()), name.size());
    end_ = (name_at + name_length + 7) / 8 * 8;
    if (granularity_bits_ < 9 || granularity_bits_ > 31)
        throw std::runtime_error("bitmap " + name_ + " has granularity bits " + std::to_string(granularity_bits_));
}

bool Bitmap::marked(std::uint64_t offset) const
{
    const std::uint64_t granule = offset >> granularity_bits_;
    const std::uint64_t index = granule / 8 / cluster_size_;
    if (index >= table_.entries)
        throw std::out_of_range("bitmap " + name_ + " ends before the disk");
    const auto raw = get<std::uint64_t>(image_, table_.offset + index * entry_size);
    const std::uint64_t cluster = raw & offset_mask;
    if (cluster == 0)
        return raw == all_ones;
    return get<std::uint8_t>(image_, cluster + granule / 8 % cluster_size_) >> granule % 8 & 1;
}

std::vector<Bitmap> read_bitmaps(std::span<const std::byte> image, const Reader &reader)
{
    std::vector<Bitmap> all;
    if (reader.version() < 3 || !(get<std::uint64_t>(image, h_autoclear) & autoclear_bitmaps))
        return all;
    const auto extension = find_extension(image);
    if (!extension)
        return all;
    auto entry = get<std::uint64_t>(image, *extension + x_directory_offset);
    for (auto left = get<std::uint32_t>(image, *extension + x_nb_bitmaps); left; left--) {
        all.emplace_back(image, reader.cluster_size(), entry);
        entry = all.back().end();
    }
    return all;
}

} // namespace liveblk::oracle
