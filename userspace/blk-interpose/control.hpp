// SPDX-License-Identifier: GPL-2.0-only
// The control device of the kernel module. Every call throws Error with what was attempted, the step that failed and
// why.
#pragma once

#include "base/unique_fd.hpp"

#include <blk-interposer.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace liveblk::interpose {

// How long a transition was felt, in nanoseconds.
struct Times {
    std::uint64_t parked = 0;
    std::uint64_t frozen = 0;
};

// A pair of disks, as the kernel names it.
struct Pair {
    std::uint32_t id = 0;
    std::string lower; // "/dev/interpose1"
};

class Control {
public:
    // Loads the module if it is not there.
    Control();

    // Until something is attached to it, and once it is detached, the pair goes away with this.
    Pair create(const std::string &original) const;
    // The file systems are frozen besides those that the kernel finds by the device; see filesystems.hpp.
    Times attach(const Pair &pair, const std::string &target, const std::vector<UniqueFd> &filesystems) const;
    // None of them is frozen if there is no vector.
    Times detach(std::uint32_t id, const std::string &target,
                 const std::optional<std::vector<UniqueFd>> &filesystems) const;
    void destroy(const Pair &pair) const;
    std::vector<blk_interposer_status> all() const;

private:
    UniqueFd fd_;
};

// A descriptor open for reading.
UniqueFd open_device(const std::string &path);

} // namespace liveblk::interpose
