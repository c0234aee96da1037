// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace liveblk::qcow2 {

class ImageFile;
struct Header;

// One entry of the snapshot table in native order.
struct Snapshot {
    std::uint64_t l1_offset = 0;
    std::uint32_t l1_size = 0;
    std::string id;
    std::string name;
    std::uint32_t date_sec = 0;
    std::uint32_t date_nsec = 0;
    std::uint64_t vm_clock_nsec = 0;
    std::uint32_t vm_state_size_32 = 0;
    std::vector<std::byte> extra; // as it lies on disk: what is not known is kept

    std::uint64_t vm_state_size() const;
    // The virtual size at its time; entries written by old programs do not have it.
    std::optional<std::uint64_t> disk_size() const;
    void set_extra(std::uint64_t disk_size);
};

struct SnapshotTable {
    std::vector<Snapshot> snapshots;
    std::uint64_t bytes = 0; // what the table takes on disk, without padding at its end

    // By id or by name; refused if that is not exactly one.
    std::size_t find(const std::string &id_or_name, const std::string &path) const;
    std::string next_id() const;
};

SnapshotTable read_snapshot_table(const ImageFile &file, const Header &header);
std::vector<std::byte> serialise(const std::vector<Snapshot> &snapshots);

} // namespace liveblk::qcow2
