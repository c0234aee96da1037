// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/snapshot_edits.hpp"

#include "base/error.hpp"
#include "qcow2/edit.hpp"
#include "qcow2/l2_tables.hpp"
#include "qcow2/repair.hpp"

#include <algorithm>
#include <chrono>

namespace liveblk::qcow2 {
namespace {

// What qemu-img keeps of a name.
constexpr std::size_t max_name = 255;

void require_room(const Image &image, std::size_t snapshots)
{
    if (snapshots > max_snapshots)
        fail("add a snapshot to '{}': {} are the most an image can have", image.path(), max_snapshots);
}

Snapshot new_snapshot(const std::string &id, const std::string &name, std::uint64_t disk_size)
{
    Snapshot s;
    s.id = id;
    s.name = name;
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now);
    s.date_sec = static_cast<std::uint32_t>(seconds.count());
    s.date_nsec =
        static_cast<std::uint32_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now - seconds).count());
    s.set_extra(disk_size);
    return s;
}

void write_snapshots(Edit &edit, const std::vector<Snapshot> &snapshots)
{
    const SnapshotTable &old = edit.image().snapshots();
    Header &h = edit.header();
    const std::vector<std::byte> bytes = serialise(snapshots);
    if (bytes.size() > max_snapshot_table_bytes)
        fail("write the snapshot table of '{}': it would be larger than 64 MiB", edit.image().path());
    if (h.nb_snapshots)
        edit.free_structure(h.snapshots_offset, old.bytes);
    h.snapshots_offset = edit.write_new(bytes);
    h.nb_snapshots = static_cast<std::uint32_t>(snapshots.size());
}

void replace_active_l1(Edit &edit, std::span<const std::uint64_t> l1)
{
    Header &h = edit.header();
    edit.free_structure(h.l1_offset, 8ULL * h.l1_size);
    h.l1_offset = edit.write_table(l1);
    h.l1_size = static_cast<std::uint32_t>(l1.size());
}

} // namespace

void check_snapshot_name(const Image &image, const std::string &name)
{
    if (name.empty() || name.size() > max_name)
        fail("name a snapshot of '{}': a name has 1 to {} bytes, not {}", image.path(), max_name, name.size());
    if (std::any_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < ' '; }))
        fail("name a snapshot of '{}': control characters are not allowed", image.path());
    for (const Snapshot &s : image.snapshots().snapshots)
        if (s.name == name || s.id == name)
            fail("name a snapshot of '{}': '{}' is the name or id of snapshot {} already", image.path(), name,
                 printable(s.id));
}

std::string create_snapshot(Image &image, const std::string &name, Progress &progress)
{
    check_snapshot_name(image, name);
    if (!image.header().l1_size)
        not_supported("take a snapshot of '{}': it has no L1 table, its size is 0", image.path());
    require_room(image, image.snapshots().snapshots.size() + 1);
    const std::string id = image.snapshots().next_id();
    edit_consistently(image, progress, [&] {
        Edit edit(image);
        L2Tables tables(edit, progress);
        std::vector<Snapshot> snapshots = image.snapshots().snapshots;
        const std::vector<std::uint64_t> active = image.read_active_l1();
        tables.add_references(active);
        // To read the tables of other snapshots too would make the pause of a live device longer with each of them.
        if (tables.have_no_other_tables(snapshots, active))
            edit.all_in_use_is_counted();
        const std::vector<std::uint64_t> l1 = tables.share(active);
        tables.require_tables_in_use(snapshots);
        snapshots.push_back(new_snapshot(id, name, image.header().size));
        snapshots.back().l1_offset = edit.write_table(l1);
        snapshots.back().l1_size = static_cast<std::uint32_t>(l1.size());
        replace_active_l1(edit, l1);
        write_snapshots(edit, snapshots);
        edit.commit();
        edit.give_back();
    });
    return id;
}

void delete_snapshot(Image &image, const SnapshotKey &key, Progress &progress)
{
    const std::size_t index = image.snapshots().find(key, image.path());
    edit_consistently(image, progress, [&] {
        std::vector<Snapshot> snapshots = image.snapshots().snapshots;
        const Snapshot gone = snapshots[index];
        snapshots.erase(snapshots.begin() + static_cast<std::ptrdiff_t>(index));
        Edit edit(image);
        L2Tables tables(edit, progress);
        tables.drop_references(image.read_l1(gone));
        edit.free_structure(gone.l1_offset, 8ULL * gone.l1_size);
        const std::vector<std::uint64_t> active = image.read_active_l1();
        tables.require_in_use(snapshots, active);
        edit.all_in_use_is_counted();
        replace_active_l1(edit, tables.settle_copied(active));
        tables.require_tables_in_use(snapshots);
        write_snapshots(edit, snapshots);
        edit.commit();
        edit.give_back();
    });
}

void revert_to_snapshot(Image &image, const SnapshotKey &key, Progress &progress)
{
    const Header &h = image.header();
    const std::size_t index = image.snapshots().find(key, image.path());
    const Snapshot s = image.snapshots().snapshots[index];
    if ((h.autoclear & autoclear_bitmaps) && h.find(extension_bitmaps))
        not_supported("revert '{}': its persistent bitmaps would be wrong afterwards; remove them first, with "
                      "'qcow2-maint bitmap remove'",
                      image.path());
    const std::uint64_t size = s.disk_size().value_or(h.size);
    const std::uint64_t entries = std::max<std::uint64_t>(s.l1_size, h.l1_entries_for(size));
    if (size > max_size || entries * 8 > max_l1_bytes)
        fail("revert '{}' to snapshot {}: its size of {} bytes is not possible", image.path(), printable(s.id), size);
    edit_consistently(image, progress, [&] {
        Edit edit(image);
        L2Tables tables(edit, progress);
        std::vector<std::uint64_t> l1 = image.read_l1(s);
        tables.drop_references(image.read_active_l1());
        tables.add_references(l1);
        l1.resize(entries);
        tables.require_in_use(image.snapshots().snapshots, {});
        edit.all_in_use_is_counted();
        replace_active_l1(edit, tables.settle_copied(l1));
        tables.require_tables_in_use(image.snapshots().snapshots);
        edit.header().size = size;
        edit.commit();
        edit.give_back();
    });
}

void rename_snapshot(Image &image, const SnapshotKey &key, const std::string &name, Progress &progress)
{
    const std::size_t index = image.snapshots().find(key, image.path());
    check_snapshot_name(image, name);
    edit_consistently(image, progress, [&] {
        std::vector<Snapshot> snapshots = image.snapshots().snapshots;
        snapshots[index].name = name;
        Edit edit(image);
        write_snapshots(edit, snapshots);
        edit.commit();
        edit.give_back();
    });
}

} // namespace liveblk::qcow2
