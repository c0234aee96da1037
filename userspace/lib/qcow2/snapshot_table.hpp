// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
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

// How a snapshot is named. One may have the id of another as its name.
struct SnapshotKey {
    enum class By { id_or_name, id, name };

    SnapshotKey() = default;
    SnapshotKey(const char *its_text) : text(its_text) {}
    SnapshotKey(std::string its_text, By what = By::id_or_name) : text(std::move(its_text)), by(what) {}

    std::string text;
    By by = By::id_or_name;
};

struct SnapshotTable {
    std::vector<Snapshot> snapshots;
    std::uint64_t bytes = 0; // what the table takes on disk, without padding at its end

    // Refused if that is not exactly one: qemu-img takes the name first to delete and the id first to revert.
    std::size_t find(const SnapshotKey &key, const std::string &path) const;
    std::string next_id() const;
};

SnapshotTable read_snapshot_table(const ImageFile &file, const Header &header);
std::vector<std::byte> serialise(const std::vector<Snapshot> &snapshots);

} // namespace liveblk::qcow2
