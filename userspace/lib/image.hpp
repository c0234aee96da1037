// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "header.hpp"
#include "image_file.hpp"
#include "snapshot_table.hpp"

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

} // namespace liveblk::qcow2
