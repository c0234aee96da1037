// SPDX-License-Identifier: GPL-2.0-only
#include "range_lock.hpp"

#include <algorithm>

namespace liveblk::test {

bool RangeLock::conflicts(const Range &range, LockMode mode) const
{
    return std::any_of(entries_.begin(), entries_.end(), [&](const Entry &held) {
        return held.range.overlaps(range) && (mode == LockMode::exclusive || held.mode == LockMode::exclusive);
    });
}

std::optional<RangeLock::Held> RangeLock::try_lock(Range range, LockMode mode)
{
    const std::lock_guard guard(mutex_);
    if (conflicts(range, mode))
        return std::nullopt;
    return Held(*this, entries_.insert(entries_.end(), {range, mode}));
}

RangeLock::Held RangeLock::lock(Range range, LockMode mode)
{
    std::unique_lock guard(mutex_);
    released_.wait(guard, [&] { return !conflicts(range, mode); });
    return {*this, entries_.insert(entries_.end(), {range, mode})};
}

void RangeLock::release(Entries::iterator entry)
{
    {
        const std::lock_guard guard(mutex_);
        entries_.erase(entry);
    }
    released_.notify_all();
}

} // namespace liveblk::test
