// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "aligned_buffer.hpp"
#include "block_target.hpp"
#include "range_lock.hpp"
#include "workload.hpp"

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace liveblk::test {

// An operation on its way.
struct Request {
    Op op;
    AlignedBuffer buffer;
    std::vector<iovec> vectors;
    std::optional<RangeLock::Held> lock;
    std::optional<RangeLock::Held> source_lock;
    std::uint64_t started = 0;
    int error = 0;
    std::uint64_t copied = 0; // by a copy, whether it failed or not

    std::span<std::byte> payload() { return buffer.span(op.memory_offset, op.range.length); }

    // Sets op and makes the buffer large enough for it.
    void prepare(const Op &next);
};

// A way to hand operations to the kernel.
class Submitter {
public:
    virtual ~Submitter() = default;

    // True when the request is complete at return, else a later wait() gives it.
    virtual bool start(Request &request) = 0;

    // The next complete request.
    virtual Request &wait() = 0;
};

std::unique_ptr<Submitter> make_sync_submitter(const BlockTarget &target, bool direct);
std::unique_ptr<Submitter> make_uring_submitter(const BlockTarget &target, bool direct, unsigned depth);

} // namespace liveblk::test
