// SPDX-License-Identifier: GPL-2.0-only
#include "header_area.hpp"

#include <algorithm>
#include <stdexcept>

namespace liveblk::unit {

ExactBuffer::ExactBuffer(std::span<const std::uint8_t> bytes)
    : data_(std::make_unique<std::uint8_t[]>(bytes.size())), size_(bytes.size())
{
    std::copy(bytes.begin(), bytes.end(), data_.get());
}

HeaderArea::HeaderArea(std::uint32_t version, std::uint32_t cluster_bits)
    : cluster_bits_(cluster_bits), bytes_(QCOW2_HEADER_AREA)
{
    const std::uint64_t entries = cluster_size() / 8;

    set(field::magic, 0x514649fb);
    set(field::version, version);
    set(field::cluster_bits, cluster_bits);
    set(field::size, 4 * entries * cluster_size());
    set(field::l1_size, 4);
    set(field::l1_table_offset, 2 * cluster_size());
    set(field::refcount_table_offset, cluster_size());
    set(field::refcount_table_clusters, 1);
    if (version >= 3) {
        set(field::refcount_order, 4);
        set(field::header_length, v3_length);
    }
}

std::uint64_t HeaderArea::get(Field f) const
{
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < f.width; i++)
        value = value << 8 | bytes_.at(f.offset + i);
    return value;
}

HeaderArea &HeaderArea::set(Field f, std::uint64_t value)
{
    return put(f.offset, f.width, value);
}

HeaderArea &HeaderArea::put(std::size_t offset, std::size_t width, std::uint64_t value)
{
    for (std::size_t i = 0; i < width; i++)
        bytes_.at(offset + i) = static_cast<std::uint8_t>(value >> (8 * (width - 1 - i)));
    return *this;
}

std::size_t HeaderArea::extensions_begin() const
{
    return get(field::version) >= 3 ? get(field::header_length) : v2_length;
}

HeaderArea &HeaderArea::extension(std::uint32_t type, std::span<const std::uint8_t> data)
{
    const std::size_t at = std::max(next_extension_, extensions_begin());

    extension(type, data.size());
    std::copy(data.begin(), data.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(at + 8));
    return *this;
}

HeaderArea &HeaderArea::extension(std::uint32_t type, std::size_t length)
{
    const std::size_t at = std::max(next_extension_, extensions_begin());

    if (at + 8 + length > bytes_.size())
        throw std::out_of_range("a header extension past the end of the header area");
    put(at, 4, type);
    put(at + 4, 4, length);
    next_extension_ = at + 8 + (length + 7) / 8 * 8;
    return *this;
}

Parsed HeaderArea::parse(std::size_t length) const
{
    const ExactBuffer buffer(bytes().first(length));
    qcow2_reason why{};
    Parsed parsed{};

    parsed.result = qcow2_header_parse(buffer.data(), buffer.size(), &parsed.geometry, &why);
    parsed.why = why.text;
    return parsed;
}

Verdict supported(const HeaderArea &area, bool read_only)
{
    const Parsed parsed = area.parse();
    const ExactBuffer buffer(area.bytes());
    qcow2_reason why{};

    if (parsed.result)
        throw std::logic_error("qcow2_header_parse() refuses what is to be judged: " + parsed.why);
    const int result = qcow2_header_supported(buffer.data(), buffer.size(), &parsed.geometry, read_only, &why);
    return {result, why.text};
}

std::vector<std::uint8_t> feature_row(unsigned type, unsigned bit, std::string_view name)
{
    std::vector<std::uint8_t> row(48);

    if (name.size() > 46)
        throw std::length_error("a feature name of more than 46 bytes");
    row[0] = static_cast<std::uint8_t>(type);
    row[1] = static_cast<std::uint8_t>(bit);
    std::copy(name.begin(), name.end(), row.begin() + 2);
    return row;
}

} // namespace liveblk::unit
