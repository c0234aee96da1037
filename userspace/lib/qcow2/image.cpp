// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/image.hpp"

#include "base/error.hpp"
#include "qcow2/big_endian.hpp"

namespace liveblk::qcow2 {

Image::Image(ImageFile file) : file_(std::move(file))
{
    reload();
}

void Image::reload()
{
    header_ = read_header(file_);
    snapshots_ = read_snapshot_table(file_, header_);
}

bool Image::holds(std::uint64_t offset, std::uint64_t bytes) const
{
    return header_.aligned(offset) && offset >= header_.cluster_size() && offset < limit() && bytes <= limit() - offset;
}

std::vector<std::uint64_t> Image::read_l1(const Snapshot &snapshot) const
{
    return read_l1(fmt::format("snapshot {}", printable(snapshot.id)), snapshot.l1_offset, snapshot.l1_size);
}

std::vector<std::uint64_t> Image::read_l1(const std::string &whose, std::uint64_t offset, std::uint64_t entries) const
{
    if (entries == 0)
        return {};
    if (entries * 8 > max_l1_bytes || !holds(offset, entries * 8))
        fail("read the L1 table of {} at {:#x} of '{}': {} entries do not lie inside of the image", whose, offset,
             path(), entries);
    return read_table(file_, offset, entries);
}

std::vector<std::uint64_t> read_table(const ImageFile &file, std::uint64_t offset, std::uint64_t entries)
{
    std::vector<std::uint64_t> table(entries);
    file.read(std::as_writable_bytes(std::span(table)), offset);
    for (std::uint64_t &entry : table)
        entry = big_endian(entry);
    return table;
}

} // namespace liveblk::qcow2
