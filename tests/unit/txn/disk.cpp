// SPDX-License-Identifier: GPL-2.0-only
#include "disk.hpp"

#include "sim.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace liveblk::unit::txn {

namespace {

// What a block device may have in it where it was told that nothing is needed any more.
const Sector &garbage()
{
    static const Sector content = [] {
        Sector s;
        s.fill(0xdb);
        return s;
    }();
    return content;
}

bool zeros(std::span<const std::uint8_t> content)
{
    return !content[0] && !std::memcmp(content.data(), content.data() + 1, content.size() - 1);
}

} // namespace

const Sector *Arena::keep(std::span<const std::uint8_t> content)
{
    if (zeros(content))
        return nullptr;
    if (used_ / chunk == chunks_.size())
        chunks_.push_back(std::make_unique<Sector[]>(chunk));
    Sector &s = chunks_[used_ / chunk][used_ % chunk];
    used_++;
    std::copy(content.begin(), content.end(), s.begin());
    return &s;
}

const Sector *SectorMap::get(std::uint64_t sector) const
{
    const std::size_t at = sector / 128;
    return at < chunks_.size() && chunks_[at] ? (*chunks_[at])[sector % 128] : nothing_;
}

void SectorMap::set(std::uint64_t sector, const Sector *content)
{
    const std::size_t at = sector / 128;
    if (at >= chunks_.size())
        chunks_.resize(at + 1);
    if (!chunks_[at]) {
        chunks_[at] = std::make_shared<Chunk>();
        chunks_[at]->fill(nothing_);
    } else if (chunks_[at].use_count() > 1) {
        chunks_[at] = std::make_shared<Chunk>(*chunks_[at]);
    }
    (*chunks_[at])[sector % 128] = content;
}

void SectorMap::cut(std::uint64_t sector)
{
    for (const std::uint64_t end = chunks_.size() * 128; sector < end; sector++) {
        if (!chunks_[sector / 128])
            sector |= 127;
        else if (get(sector))
            set(sector, nullptr);
    }
}

std::uint64_t Content::number(std::uint64_t pos, unsigned bytes) const
{
    const Sector *s = get(pos / sector_bytes);
    std::uint64_t value = 0;
    if (s)
        for (unsigned i = 0; i < bytes; i++)
            value = value << 8 | (*s)[pos % sector_bytes + i];
    return value;
}

} // namespace liveblk::unit::txn

using namespace liveblk::unit::txn;

disk::disk(Arena &arena, const Content &content, std::uint64_t most, bool block_device)
    : arena_(arena), durable_(content), now_(content), most_(most), block_device_(block_device)
{
}

int disk::fate(disk_op op)
{
    const unsigned percent = op == DISK_READ    ? faults_.reads
                             : op == DISK_WRITE ? faults_.writes
                             : op == DISK_FLUSH ? faults_.flushes
                                                : faults_.extends;
    if (outage_)
        outage_ = sim_random(12) != 0;
    else if (faults_.outages)
        outage_ = sim_random(1000) < faults_.outages;
    if (sim_random(100) >= percent && !(outage_ && op != DISK_READ && sim_random(4)))
        return 0;
    return op == DISK_EXTEND && sim_random(2) ? -ENOSPC : -EIO;
}

void disk::apply(Content &content, const Change &change)
{
    if (change.resizes) {
        content.size = change.size;
        content.cut();
        return;
    }
    for (std::size_t i = 0; i < change.sectors.size(); i++)
        content.sectors.set(change.first + i, change.sectors[i]);
}

// To what is durable, for as long as it is looked at.
void disk::apply_part(const Change &change, Part part, Undo &undo)
{
    if (part == Part::some && sim_random(2))
        return;
    if (change.resizes) {
        // What is beyond the end then is cut off by whoever goes on with it.
        durable_.size = change.size;
        return;
    }
    const bool torn = part == Part::some && !sim_random(3);
    for (std::size_t i = 0; i < change.sectors.size(); i++) {
        if (torn && sim_random(2))
            continue;
        undo.sectors.emplace_back(change.first + i, durable_.sectors.get(change.first + i));
        durable_.sectors.set(change.first + i, change.sectors[i]);
    }
}

void disk::crash(Part part)
{
    Undo undo{{}, durable_.size};
    if (part != Part::none) {
        for (const Change &change : cached_)
            apply_part(change, part, undo);
        for (const auto &[id, change] : under_way_)
            apply_part(change, part, undo);
    }
    traffic_.crashes++;
    check_(durable_);
    durable_.size = undo.size;
    for (auto it = undo.sectors.rbegin(); it != undo.sectors.rend(); ++it)
        durable_.sectors.set(it->first, it->second);
}

void disk::crashes()
{
    if (!check_)
        return;
    crash(Part::some);
    if (!sim_random(4))
        crash(sim_random(2) ? Part::none : Part::all);
}

void disk::end(Change change)
{
    apply(now_, change);
    cached_.push_back(std::move(change));
}

void disk::check_inside(std::uint64_t pos, std::uint64_t len) const
{
    if (pos % sector_bytes || len % sector_bytes || !len)
        sim_fail("%llu bytes at 0x%llx are not whole sectors", static_cast<unsigned long long>(len),
                 static_cast<unsigned long long>(pos));
    if (pos + len > now_.size)
        sim_fail("%llu bytes at 0x%llx are beyond the end", static_cast<unsigned long long>(len),
                 static_cast<unsigned long long>(pos));
}

void disk::read(std::uint64_t pos, std::span<std::uint8_t> to) const
{
    if (block_device_)
        check_inside(pos, to.size());
    for (std::size_t at = 0; at < to.size(); at += sector_bytes) {
        const Sector *s = now_.get((pos + at) / sector_bytes);
        if (s)
            std::copy(s->begin(), s->end(), to.begin() + at);
        else
            std::fill_n(to.begin() + at, sector_bytes, 0);
    }
}

std::vector<const Sector *> disk::keep(std::span<const std::uint8_t> from)
{
    std::vector<const Sector *> sectors;
    for (std::size_t at = 0; at < from.size(); at += sector_bytes)
        sectors.push_back(arena_.keep(from.subspan(at, sector_bytes)));
    return sectors;
}

std::uint64_t disk::write_begin(std::uint64_t pos, std::span<const std::uint8_t> from)
{
    check_inside(pos, from.size());
    traffic_.writes++;
    Change change;
    change.first = pos / sector_bytes;
    change.sectors = keep(from);
    under_way_.emplace(++next_id_, std::move(change));
    return next_id_;
}

void disk::write_end(std::uint64_t id, int err)
{
    Change change = std::move(under_way_.at(id));
    under_way_.erase(id);
    if (err) {
        // Some of it may have got there.
        const std::size_t done = sim_random(2) ? 0 : sim_random(change.sectors.size() + 1);
        change.sectors.resize(done);
    }
    end(std::move(change));
    crashes();
}

std::uint64_t disk::flush_begin()
{
    traffic_.flushes++;
    crashes();
    return flushed_ + cached_.size();
}

void disk::flush_end(std::uint64_t id, int err)
{
    for (; !err && flushed_ < id; flushed_++) {
        apply(durable_, cached_.front());
        cached_.pop_front();
    }
    crashes();
    if (check_ && !cached_.empty())
        crash(Part::none);
}

void disk::discard(std::uint64_t pos, std::uint64_t len)
{
    check_inside(pos, len);
    Change change;
    change.first = pos / sector_bytes;
    for (std::size_t i = 0; i < len / sector_bytes; i++)
        change.sectors.push_back(block_device_ && sim_random(2) ? &garbage() : nullptr);
    if (sim_random(8))
        end(std::move(change));
}

void disk::resize(std::uint64_t size)
{
    Change change;
    change.resizes = true;
    change.size = size;
    end(std::move(change));
    crashes();
}

int disk_fate(disk *d, disk_op op)
{
    return d->fate(op);
}

std::uint64_t disk_size(const disk *d)
{
    return d->size();
}

std::uint64_t disk_most(const disk *d)
{
    return d->most();
}

void disk_read(disk *d, std::uint64_t pos, void *buf, std::uint64_t len)
{
    d->read(pos, {static_cast<std::uint8_t *>(buf), len});
}

std::uint64_t disk_write_begin(disk *d, std::uint64_t pos, const void *buf, std::uint64_t len)
{
    return d->write_begin(pos, {static_cast<const std::uint8_t *>(buf), len});
}

void disk_write_end(disk *d, std::uint64_t id, int err)
{
    d->write_end(id, err);
}

std::uint64_t disk_flush_begin(disk *d)
{
    return d->flush_begin();
}

void disk_flush_end(disk *d, std::uint64_t id, int err)
{
    d->flush_end(id, err);
}

void disk_discard(disk *d, std::uint64_t pos, std::uint64_t len)
{
    d->discard(pos, len);
}

void disk_resize(disk *d, std::uint64_t size)
{
    d->resize(size);
}
