// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "qcow2/header.hpp"
#include "qcow2/image_file.hpp"
#include "qcow2/snapshot_table.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace liveblk::qcow2 {

// An open image: its file, header and snapshot table.
class Image {
public:
    Image(const std::string &path, Access access) : Image(ImageFile(path, access)) {}
    explicit Image(ImageFile file);

    ImageFile &file() { return file_; }
    const ImageFile &file() const { return file_; }
    const Header &header() const { return header_; }
    const SnapshotTable &snapshots() const { return snapshots_; }
    const std::string &path() const { return file_.path(); }

    // Clusters that the file has; the last one may be there in part.
    std::uint64_t clusters() const { return header_.clusters_of(file_.size()); }
    // No cluster begins at or after this offset.
    std::uint64_t limit() const { return clusters() << header_.cluster_bits; }
    // Whether a table may lie there.
    bool holds(std::uint64_t offset, std::uint64_t bytes) const;

    std::vector<std::uint64_t> read_active_l1() const { return read_l1("active", header_.l1_offset, header_.l1_size); }
    std::vector<std::uint64_t> read_l1(const Snapshot &snapshot) const;

    // Reads everything anew, after an edit.
    void reload();

private:
    std::vector<std::uint64_t> read_l1(const std::string &whose, std::uint64_t offset, std::uint64_t entries) const;

    ImageFile file_;
    Header header_;
    SnapshotTable snapshots_;
};

// A table of 64-bit entries, in native order.
std::vector<std::uint64_t> read_table(const ImageFile &file, std::uint64_t offset, std::uint64_t entries);

// Calls fn(index, entry) for all entries but those of 0. Takes no memory for the table, and no time for holes in it: a
// small file may claim any number of large tables.
template <typename Fn>
void for_each_entry(const ImageFile &file, std::uint64_t offset, std::uint64_t entries, Fn fn)
{
    constexpr std::uint64_t at_once = 8192;
    const std::uint64_t end = offset + entries * 8;
    for (std::uint64_t at = offset; (at = file.next_data(at, end)) < end;) {
        at = at / 8 * 8;
        const std::uint64_t data_end = std::max(file.next_hole(at, end), at + 8);
        while (at < data_end) {
            const std::uint64_t count = std::min(at_once, (data_end - at + 7) / 8);
            const std::vector<std::uint64_t> part = read_table(file, at, count);
            for (std::uint64_t i = 0; i < count; i++)
                if (part[i])
                    fn((at - offset) / 8 + i, part[i]);
            at += count * 8;
        }
    }
}

} // namespace liveblk::qcow2
