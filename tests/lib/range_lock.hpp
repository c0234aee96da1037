// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "range.hpp"

#include <condition_variable>
#include <list>
#include <mutex>
#include <optional>
#include <utility>

namespace liveblk::test {

enum class LockMode { shared, exclusive };

// Keeps concurrent operations apart unless both only read.
class RangeLock {
    struct Entry {
        Range range;
        LockMode mode;
    };
    using Entries = std::list<Entry>;

public:
    // Holds one range until it is destroyed.
    class Held {
    public:
        Held(RangeLock &owner, Entries::iterator entry) : owner_(&owner), entry_(entry) {}
        Held(Held &&other) noexcept : owner_(std::exchange(other.owner_, nullptr)), entry_(other.entry_) {}
        Held &operator=(Held &&other) noexcept
        {
            std::swap(owner_, other.owner_);
            std::swap(entry_, other.entry_);
            return *this;
        }
        Held(const Held &) = delete;
        Held &operator=(const Held &) = delete;
        ~Held()
        {
            if (owner_)
                owner_->release(entry_);
        }

    private:
        RangeLock *owner_;
        Entries::iterator entry_;
    };

    std::optional<Held> try_lock(Range range, LockMode mode);

    // Waits; to be called only by a thread that holds nothing, so that no two threads wait for each other.
    Held lock(Range range, LockMode mode);

private:
    bool conflicts(const Range &range, LockMode mode) const;
    void release(Entries::iterator entry);

    std::mutex mutex_;
    std::condition_variable released_;
    Entries entries_;
};

} // namespace liveblk::test
