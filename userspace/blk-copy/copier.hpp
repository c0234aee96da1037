// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/unique_fd.hpp"

#include <blk-copy.h>

#include <cstdint>
#include <string>

namespace liveblk::copy {

enum class Emulate { never, automatic, always };

// What became of a range; error is 0 or an errno, and done is true in either case.
struct Outcome {
    std::uint64_t done = 0;
    std::uint64_t offloaded = 0;
    int error = 0;
};

// The kernel's copier.
class Copier {
public:
    Copier();

    // Copies bytes between block devices; both descriptors have to be open for what is done to them.
    Outcome copy(int src, std::uint64_t src_offset, int dst, std::uint64_t dst_offset, std::uint64_t length,
                 Emulate emulate) const;

private:
    UniqueFd fd_;
};

} // namespace liveblk::copy
