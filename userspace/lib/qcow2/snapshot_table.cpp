// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/snapshot_table.hpp"

#include "base/error.hpp"
#include "qcow2/header.hpp"
#include "qcow2/image_file.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace liveblk::qcow2 {
namespace {

constexpr std::size_t most_named = 4; // of snapshots that a message could name
constexpr std::uint64_t no_icount = ~0ULL;

// Reads on from where it is, and never past what a table may have.
class Cursor {
public:
    Cursor(const ImageFile &file, const Header &header) : file_(file), start_(header.snapshots_offset) {}

    std::uint64_t bytes() const { return used_; }

    void take(std::span<std::byte> bytes)
    {
        if (bytes.size() > max_snapshot_table_bytes - used_)
            refuse("it is larger than 64 MiB");
        if (start_ + used_ + bytes.size() > file_.size())
            refuse("it ends past the end of the image");
        file_.read(bytes, start_ + used_);
        used_ += bytes.size();
    }

    void align() { used_ = (used_ + 7) / 8 * 8; }

    std::string text(std::size_t length)
    {
        std::string s(length, '\0');
        take(std::as_writable_bytes(std::span(s)));
        return s;
    }

    [[noreturn]] void refuse(const std::string &why) const
    {
        fail("read the snapshot table at {:#x} of '{}': {}", start_, file_.path(), why);
    }

private:
    const ImageFile &file_;
    std::uint64_t start_;
    std::uint64_t used_ = 0;
};

Snapshot read_snapshot(Cursor &cursor)
{
    std::array<std::byte, QCOW2_SNAPSHOT_FIXED> bytes;
    cursor.align();
    cursor.take(bytes);
    qcow2_snapshot fixed;
    qcow2_snapshot_parse(bytes.data(), &fixed);
    if (fixed.extra_size > max_snapshot_extra)
        cursor.refuse(fmt::format("{} bytes of extra data are too much", fixed.extra_size));
    Snapshot s;
    s.l1_offset = fixed.l1_offset;
    s.l1_size = fixed.l1_size;
    s.date_sec = fixed.date_sec;
    s.date_nsec = fixed.date_nsec;
    s.vm_clock_nsec = fixed.vm_clock_nsec;
    s.vm_state_size_32 = fixed.vm_state_size;
    s.extra.resize(fixed.extra_size);
    cursor.take(s.extra);
    s.id = cursor.text(fixed.id_size);
    s.name = cursor.text(fixed.name_size);
    return s;
}

bool matches(const Snapshot &snapshot, const SnapshotKey &key)
{
    return (key.by != SnapshotKey::By::name && snapshot.id == key.text) ||
           (key.by != SnapshotKey::By::id && snapshot.name == key.text);
}

const char *name_of(SnapshotKey::By by)
{
    switch (by) {
    case SnapshotKey::By::id:
        return "id";
    case SnapshotKey::By::name:
        return "name";
    default:
        return "id or name";
    }
}

void append(std::vector<std::byte> &out, std::span<const std::byte> bytes)
{
    out.insert(out.end(), bytes.begin(), bytes.end());
}

} // namespace

std::uint64_t Snapshot::vm_state_size() const
{
    qcow2_snapshot_extra known;
    return qcow2_snapshot_extra_parse(extra.data(), extra.size(), &known) >= 1 ? known.vm_state_size : vm_state_size_32;
}

std::optional<std::uint64_t> Snapshot::disk_size() const
{
    qcow2_snapshot_extra known;
    if (qcow2_snapshot_extra_parse(extra.data(), extra.size(), &known) < 2)
        return std::nullopt;
    return known.disk_size;
}

void Snapshot::set_extra(std::uint64_t disk_size)
{
    extra.resize(QCOW2_SNAPSHOT_EXTRA);
    const qcow2_snapshot_extra known = {.vm_state_size = 0, .disk_size = disk_size, .icount = no_icount};
    qcow2_snapshot_extra_store(extra.data(), &known);
}

std::size_t SnapshotTable::find(const SnapshotKey &key, const std::string &path) const
{
    std::vector<std::size_t> found;
    for (std::size_t i = 0; i < snapshots.size(); i++)
        if (matches(snapshots[i], key))
            found.push_back(i);
    if (found.size() == 1)
        return found.front();
    const std::string what = fmt::format("find snapshot '{}' of '{}'", printable(key.text), path);
    if (found.empty())
        fail("{}: there is none with that {}", what, name_of(key.by));
    std::string all;
    for (const std::size_t i : std::span(found).first(std::min(found.size(), most_named)))
        all += fmt::format("{}id {} with the name '{}'", all.empty() ? "" : ", ", printable(snapshots[i].id),
                           printable(snapshots[i].name));
    fail("{}: {} have that {}: {}; say which one with --id or --name", what, found.size(), name_of(key.by), all);
}

std::string SnapshotTable::next_id() const
{
    std::uint64_t highest = 0;
    for (const Snapshot &s : snapshots) {
        std::uint64_t id = 0;
        const auto parsed = std::from_chars(s.id.data(), s.id.data() + s.id.size(), id);
        if (parsed.ec == std::errc() && id < UINT64_MAX)
            highest = std::max(highest, id);
    }
    return std::to_string(highest + 1);
}

SnapshotTable read_snapshot_table(const ImageFile &file, const Header &header)
{
    SnapshotTable table;
    Cursor cursor(file, header);
    for (std::uint32_t i = 0; i < header.nb_snapshots; i++)
        table.snapshots.push_back(read_snapshot(cursor));
    table.bytes = cursor.bytes();
    return table;
}

std::vector<std::byte> serialise(const std::vector<Snapshot> &snapshots)
{
    std::vector<std::byte> out;
    for (const Snapshot &s : snapshots) {
        const qcow2_snapshot fixed = {.l1_offset = s.l1_offset,
                                      .l1_size = s.l1_size,
                                      .id_size = static_cast<std::uint16_t>(s.id.size()),
                                      .name_size = static_cast<std::uint16_t>(s.name.size()),
                                      .date_sec = s.date_sec,
                                      .date_nsec = s.date_nsec,
                                      .vm_clock_nsec = s.vm_clock_nsec,
                                      .vm_state_size = s.vm_state_size_32,
                                      .extra_size = static_cast<std::uint32_t>(s.extra.size())};
        std::array<std::byte, QCOW2_SNAPSHOT_FIXED> bytes;
        qcow2_snapshot_store(bytes.data(), &fixed);
        append(out, bytes);
        append(out, s.extra);
        append(out, std::as_bytes(std::span(s.id)));
        append(out, std::as_bytes(std::span(s.name)));
        out.resize((out.size() + 7) / 8 * 8);
    }
    return out;
}

} // namespace liveblk::qcow2
