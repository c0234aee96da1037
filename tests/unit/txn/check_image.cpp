// SPDX-License-Identifier: GPL-2.0-only
// What is wrong with an image, by the specification.
#include "image.hpp"

#include <fmt/format.h>

namespace liveblk::unit::txn {

namespace {

constexpr std::uint64_t copied = std::uint64_t{1} << 63;
constexpr std::uint64_t offset_mask = 0x00fffffffffffe00U;
constexpr std::uint64_t l1_reserved = 0x7f000000000001ffU;
constexpr std::uint64_t l2_reserved = 0x7f000000000001feU; // compressed clusters, too: there are none
constexpr std::uint64_t by_active = 1;
constexpr std::uint64_t by_snapshot = 2;

constexpr std::uint64_t magic_at = 0;
constexpr std::uint64_t incompatible_at = 72;
constexpr std::uint64_t dirty_bit = 1;
constexpr std::uint64_t extended_bit = 16;

} // namespace

void Checker::bad(std::string what)
{
    if (bad_.empty())
        bad_ = std::move(what);
}

// Notes a reference; false if it leads nowhere.
bool Checker::see(std::uint64_t offset, std::uint64_t count, Role role, unsigned by)
{
    if (offset % shape_.cluster() || (!offset && role != Role::header) ||
        offset + (count - 1) * shape_.cluster() >= content_->size) {
        bad(fmt::format("a reference to {:#x} leads nowhere (as {})", offset, static_cast<int>(role)));
        return false;
    }
    for (std::uint64_t c = offset / shape_.cluster(); count--; c++) {
        Seen &s = seen_[c];
        if (s.check != check_) {
            s = {check_, role, 0, 0};
            found_.push_back(c);
        }
        if (s.role != role || (s.by & by))
            bad(fmt::format("the cluster at {:#x} is in use twice (as {} and {})", c * shape_.cluster(),
                            static_cast<int>(s.role), static_cast<int>(role)));
        s.by |= by;
        s.refs++;
    }
    return true;
}

void Checker::look_at_header()
{
    const auto field = [this](std::uint64_t pos, unsigned bytes, std::uint64_t want, const char *what) {
        if (content_->number(pos, bytes) != want)
            bad(fmt::format("the header says {} for {}, not {}", content_->number(pos, bytes), what, want));
    };
    field(magic_at, 4, 0x514649fb, "the magic number");
    field(4, 4, shape_.version, "the version");
    field(20, 4, shape_.cluster_bits, "the cluster size");
    field(24, 8, shape_.guest_bytes, "the size");
    field(36, 4, shape_.l1_entries(), "the length of the L1 table");
    field(60, 4, shape_.snapshot, "the number of snapshots");
    see(0, 1, Role::header, by_active);
    if (shape_.version < 3)
        return;
    if ((content_->be64(incompatible_at) & ~dirty_bit) != (shape_.extended ? extended_bit : 0))
        bad(fmt::format("the header has incompatible features {:#x}", content_->be64(incompatible_at)));
    field(96, 4, shape_.refcount_order, "the refcounts' width");
}

void Checker::look_at_reftable()
{
    const std::uint64_t clusters = content_->number(56, 4);
    reftable_ = content_->be64(48);
    reftable_entries_ = 0;
    if (!clusters || clusters > 64 || !see(reftable_, clusters, Role::reftable, by_active)) {
        bad(fmt::format("the refcount table has {} clusters", clusters));
        return;
    }
    reftable_entries_ = clusters * shape_.reftable_entries();
    for (std::uint64_t i = 0; i < reftable_entries_; i++)
        if (const std::uint64_t entry = content_->be64(reftable_ + i * 8))
            see(entry, 1, Role::refblock, by_active);
}

void Checker::look_at_entry(std::uint64_t guest, std::uint64_t at, unsigned by, std::vector<Mapped> &map)
{
    const std::uint64_t entry = content_->be64(at), host = entry & offset_mask;
    std::uint64_t bitmap = shape_.extended ? content_->be64(at + 8) : 0xffffffff;
    const std::uint64_t data = bitmap & 0xffffffff, zeros = bitmap >> 32;
    if (!entry && (!shape_.extended || !bitmap))
        return;
    const bool zero = shape_.version >= 3 && !shape_.extended && (entry & 1);
    if ((entry & l2_reserved) || ((entry & 1) && !zero) || (!host && !zero && !shape_.extended) || (data & zeros) ||
        (shape_.extended && !host && (data || entry))) {
        bad(fmt::format("an L2 entry is {:#x}, {:#x}", entry, bitmap));
        return;
    }
    if (host && !see(host, 1, Role::data, by))
        return;
    if (host && by == by_active)
        entries_.push_back(entry);
    map.push_back({guest, zero ? 0 : host, data});
}

void Checker::look_at_l2(std::uint64_t l1_index, std::uint64_t offset, unsigned by, std::vector<Mapped> &map)
{
    const std::uint64_t step = shape_.entry_bytes(), end = shape_.l2_entries() * step;
    for (std::uint64_t at = 0; at < end; at += step)
        if (at % sector_bytes == 0 && content_->is_zero((offset + at) / sector_bytes))
            at += sector_bytes - step;
        else
            look_at_entry(l1_index * shape_.l2_entries() + at / step, offset + at, by, map);
}

// What is in a sector of a mapped cluster, if it is data.
const Sector *Checker::sector_of(const Content &content, const Mapped &m, std::uint64_t sector) const
{
    if (!m.host || (shape_.extended && !(m.bitmap >> sector * sector_bytes / shape_.subcluster() & 1)))
        return nullptr;
    return content.get(m.host / sector_bytes + sector);
}

void Checker::look_at_l1(std::uint64_t offset, std::uint64_t entries, unsigned by, std::vector<Mapped> &map)
{
    map.clear();
    if (!see(offset, (entries * 8 - 1) / shape_.cluster() + 1, Role::l1, by))
        return;
    for (std::uint64_t i = 0; i < entries; i++) {
        const std::uint64_t entry = content_->be64(offset + i * 8);
        if (!entry)
            continue;
        if (entry & l1_reserved)
            bad(fmt::format("an L1 entry is {:#x}", entry));
        else if (see(entry & offset_mask, 1, Role::l2, by)) {
            if (by == by_active)
                entries_.push_back(entry);
            look_at_l2(i, entry & offset_mask, by, map);
        }
    }
}

void Checker::look_at_snapshots()
{
    const std::uint64_t table = content_->be64(64);
    if (see(table, 1, Role::snapshots, by_active))
        look_at_l1(content_->be64(table), content_->number(table + 8, 4), by_snapshot, snapshot_);
}

// As put_bitmap() has made it, but for the flag and the entry of its table.
void Checker::look_at_bitmap()
{
    const std::uint64_t directory = content_->be64(128);
    const std::uint64_t table = content_->be64(directory);
    const std::uint64_t flags = content_->number(directory + 12, 4);
    if (content_->be64(88) != 1)
        bad(fmt::format("the autoclear bits are {:#x}", content_->be64(88)));
    if (!see(directory, 1, Role::bitmaps, by_active) || !see(table, 1, Role::bitmaps, by_active))
        return;
    if ((flags | 1) != 3)
        bad(fmt::format("the bitmap has the flags {:#x}", flags));
    bitmap_in_use_ = flags & 1;
    bitmap_entry_ = content_->be64(table);
    if (bitmap_entry_ > 1)
        see(bitmap_entry_, 1, Role::bitmaps, by_active);
}

bool Checker::bit(std::uint64_t number) const
{
    if (bitmap_entry_ <= 1)
        return bitmap_entry_;
    return content_->number(bitmap_entry_ + number / 8, 1) >> number % 8 & 1;
}

// If it counts as good: each granule with a sector that was ever written since the log began is in it.
void Checker::compare_bitmap(bool exact)
{
    if (bitmap_in_use_)
        return;
    const std::uint64_t sectors = (std::uint64_t{1} << shape_.granularity_bits) / sector_bytes;
    std::vector<bool> touched((shape_.guest_bytes - 1) / sector_bytes / sectors + 1);
    for (const auto &[cluster, versions] : log_.clusters())
        for (std::uint64_t i = 0; i < log_.sectors_in(cluster); i++)
            if (versions[i].back().start)
                touched[(cluster * log_.sectors_per_cluster() + i) / sectors] = true;
    for (std::uint64_t i = 0; i < touched.size(); i++)
        if (touched[i] != bit(i) && (touched[i] || exact))
            bad(fmt::format("granule {} was {}written, and the bitmap says something else", i,
                            touched[i] ? "" : "not "));
}

std::uint64_t Checker::refcount(std::uint64_t cluster) const
{
    const std::uint64_t per_block = shape_.cluster() * 8 >> shape_.refcount_order;
    if (cluster / per_block >= reftable_entries_)
        return 0;
    const std::uint64_t block = content_->be64(reftable_ + cluster / per_block * 8);
    const std::uint64_t bit = cluster % per_block << shape_.refcount_order;
    if (!block)
        return 0;
    if (shape_.refcount_order >= 3)
        return content_->number(block + bit / 8, 1U << shape_.refcount_order >> 3);
    return content_->number(block + bit / 8, 1) >> bit % 8 & ((1U << (1U << shape_.refcount_order)) - 1);
}

void Checker::compare_refcounts()
{
    for (const std::uint64_t c : found_)
        if (refcount(c) < seen_[c].refs)
            bad(fmt::format("the cluster at {:#x} has refcount {}, and {} references (as {})", c * shape_.cluster(),
                            refcount(c), seen_[c].refs, static_cast<int>(seen_[c].role)));
    for (const std::uint64_t entry : entries_) {
        const std::uint64_t refs = refcount((entry & offset_mask) / shape_.cluster());
        if ((refs == 1) != !!(entry & copied))
            bad(fmt::format("the entry {:#x} is wrong about the refcount, which is {}", entry, refs));
    }
}

void Checker::compare_leaks()
{
    for (std::uint64_t c = 0; c * shape_.cluster() < content_->size; c++) {
        const auto s = seen_.find(c);
        const std::uint64_t refs = s != seen_.end() && s->second.check == check_ ? s->second.refs : 0;
        if (refcount(c) != refs)
            bad(fmt::format("the cluster at {:#x} has refcount {}, and {} references, after a close",
                            c * shape_.cluster(), refcount(c), refs));
    }
}

void Checker::compare_guest(std::uint64_t since)
{
    auto mapped = active_.begin();
    for (const auto &[cluster, sectors] : log_.clusters()) {
        if (mapped != active_.end() && mapped->guest < cluster)
            bad(fmt::format("guest cluster {} is mapped, and was never written", mapped->guest));
        const bool here = mapped != active_.end() && mapped->guest == cluster;
        const Mapped m = here ? *mapped : Mapped{};
        mapped += here;
        for (std::uint64_t i = 0; i < log_.sectors_in(cluster) && bad_.empty(); i++) {
            const Sector *found = sector_of(*content_, m, i);
            bad_ = log_.judge(cluster * log_.sectors_per_cluster() + i, found, since);
        }
        if (!bad_.empty())
            return;
    }
    if (mapped != active_.end())
        bad(fmt::format("guest cluster {} is mapped, and was never written", mapped->guest));
}

void Checker::compare_snapshot()
{
    if (snapshot_.size() != shape_.data.size()) {
        bad(fmt::format("the snapshot has {} clusters, not {}", snapshot_.size(), shape_.data.size()));
        return;
    }
    const std::uint64_t per_cluster = log_.sectors_per_cluster();
    for (const Mapped &m : snapshot_)
        for (std::uint64_t i = 0; i < per_cluster; i++) {
            const Sector *found = sector_of(*content_, m, i);
            if (!found && !shape_.has_data(m.guest, i))
                continue;
            if (!found || *found != GuestLog::content(m.guest * per_cluster + i, 0)) {
                bad(fmt::format("the snapshot has lost sector {} of guest cluster {}", i, m.guest));
                return;
            }
        }
}

void Checker::look(const Content &content)
{
    content_ = &content;
    bad_.clear();
    check_++;
    found_.clear();
    entries_.clear();
    active_.clear();
    look_at_header();
    look_at_reftable();
    look_at_l1(content.be64(40), shape_.l1_entries(), by_active, active_);
    if (shape_.snapshot)
        look_at_snapshots();
    if (shape_.granularity_bits)
        look_at_bitmap();
}

bool Checker::dirty(const Content &content)
{
    return content.number(4, 4) >= 3 && (content.be64(incompatible_at) & dirty_bit);
}

std::string Checker::after_crash(const Content &content, std::uint64_t since)
{
    look(content);
    if (!shape_.lazy || !dirty(content))
        compare_refcounts();
    compare_guest(since);
    if (shape_.snapshot)
        compare_snapshot();
    if (shape_.granularity_bits)
        compare_bitmap(false);
    return bad_;
}

std::string Checker::closed(const Content &content, std::uint64_t since, bool leaks_allowed, bool space_allowed)
{
    after_crash(content, since);
    compare_refcounts();
    if (dirty(content))
        bad("the dirty bit is set after a close");
    if (!leaks_allowed)
        compare_leaks();
    if (shape_.granularity_bits) {
        if (bitmap_in_use_ && !bitmap_may_be_in_use_)
            bad("the bitmap is in use after a close");
        compare_bitmap(!bitmap_is_older_ && (!space_allowed || bitmap_entry_ != 1));
    }
    return bad_;
}

const Sector *Checker::guest_sector(const Content &content, std::uint64_t sector) const
{
    const std::uint64_t cluster = sector / log_.sectors_per_cluster();
    for (const Mapped &m : active_)
        if (m.guest == cluster)
            return sector_of(content, m, sector % log_.sectors_per_cluster());
    return nullptr;
}

} // namespace liveblk::unit::txn
