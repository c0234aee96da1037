// SPDX-License-Identifier: GPL-2.0-only
#include "submitter.hpp"

#include "error.hpp"
#include "pattern.hpp"

#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>

#include <algorithm>
#include <stdexcept>

namespace liveblk::test {

namespace {

int allocate_mode(OpKind kind)
{
    const int way = kind == OpKind::punch_hole ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
    return way | FALLOC_FL_KEEP_SIZE;
}

int write_flags(OpKind kind)
{
    return kind == OpKind::write_fua ? RWF_DSYNC : 0;
}

// A transfer that ends early is an error here: no range in use crosses the end of the device.
int transfer_error(std::int64_t result, std::uint64_t wanted)
{
    if (result < 0)
        return static_cast<int>(-result);
    return static_cast<std::uint64_t>(result) == wanted ? 0 : EIO;
}

class SyncSubmitter : public Submitter {
public:
    SyncSubmitter(const BlockTarget &target, bool direct) : target_(target), fd_(target.fd(direct)) {}

    bool start(Request &request) override
    {
        request.error = run(request);
        return true;
    }

    Request &wait() override { throw std::logic_error("nothing is ever on its way in a synchronous submitter"); }

private:
    int transfer(Request &request)
    {
        const Op &op = request.op;
        const auto offset = static_cast<off_t>(op.range.offset);
        const auto count = static_cast<int>(request.vectors.size());
        const ssize_t done = op.kind == OpKind::read
                                 ? ::preadv(fd_, request.vectors.data(), count, offset)
                                 : ::pwritev2(fd_, request.vectors.data(), count, offset, write_flags(op.kind));
        return transfer_error(done < 0 ? -errno : done, op.range.length);
    }

    int run(Request &request)
    {
        switch (request.op.kind) {
        case OpKind::read:
        case OpKind::write:
        case OpKind::write_fua:
            return transfer(request);
        case OpKind::discard:
            return target_.discard(request.op.range);
        case OpKind::zero_out:
            return target_.zero_out(request.op.range);
        case OpKind::punch_hole:
        case OpKind::zero_range:
            return target_.allocate(allocate_mode(request.op.kind), request.op.range);
        case OpKind::flush:
            return target_.flush();
        case OpKind::copy: {
            const Op &op = request.op;
            const copy::Outcome outcome = target_.copy(op.source, op.range.offset, op.emulate);
            request.copied = outcome.done;
            return outcome.error;
        }
        }
        return EINVAL;
    }

    const BlockTarget &target_;
    int fd_;
};

class UringSubmitter : public Submitter {
public:
    UringSubmitter(const BlockTarget &target, bool direct, unsigned depth)
        : fd_(target.fd(direct)), synchronous_(target, direct)
    {
        if (const int error = ::io_uring_queue_init(depth, &ring_, 0))
            throw_errno("set up io_uring", -error);
    }
    UringSubmitter(const UringSubmitter &) = delete;
    UringSubmitter &operator=(const UringSubmitter &) = delete;
    ~UringSubmitter() override { ::io_uring_queue_exit(&ring_); }

    bool start(Request &request) override
    {
        // These ioctls have no io_uring form in the oldest kernel; they run while others are on their way.
        if (request.op.kind == OpKind::discard || request.op.kind == OpKind::zero_out ||
            request.op.kind == OpKind::copy)
            return synchronous_.start(request);
        io_uring_sqe *entry = ::io_uring_get_sqe(&ring_);
        if (!entry)
            throw std::logic_error("the io_uring is full");
        fill(*entry, request);
        ::io_uring_sqe_set_data(entry, &request);
        if (const int result = ::io_uring_submit(&ring_); result < 0)
            throw_errno("submit to io_uring", -result);
        return false;
    }

    Request &wait() override
    {
        io_uring_cqe *entry = nullptr;
        int result = 0;
        do
            result = ::io_uring_wait_cqe(&ring_, &entry);
        while (result == -EINTR);
        if (result)
            throw_errno("wait for io_uring", -result);
        auto &request = *static_cast<Request *>(::io_uring_cqe_get_data(entry));
        const bool transfers = request.op.kind <= OpKind::write_fua;
        request.error = transfer_error(entry->res, transfers ? request.op.range.length : 0);
        ::io_uring_cqe_seen(&ring_, entry);
        return request;
    }

private:
    void fill(io_uring_sqe &entry, Request &request)
    {
        const Op &op = request.op;
        const auto count = static_cast<unsigned>(request.vectors.size());
        if (op.kind == OpKind::read)
            ::io_uring_prep_readv(&entry, fd_, request.vectors.data(), count, op.range.offset);
        else if (op.kind == OpKind::flush)
            ::io_uring_prep_fsync(&entry, fd_, 0);
        else if (op.kind == OpKind::write || op.kind == OpKind::write_fua)
            ::io_uring_prep_writev2(&entry, fd_, request.vectors.data(), count, op.range.offset, write_flags(op.kind));
        else
            ::io_uring_prep_fallocate(&entry, fd_, allocate_mode(op.kind), static_cast<off_t>(op.range.offset),
                                      static_cast<off_t>(op.range.length));
    }

    int fd_;
    SyncSubmitter synchronous_;
    io_uring ring_{};
};

} // namespace

void Request::prepare(const Op &next)
{
    op = next;
    error = 0;
    copied = 0;
    const std::size_t needed = op.memory_offset + op.range.length;
    if (buffer.size() < needed)
        buffer = AlignedBuffer(needed);
    vectors.clear();
    const std::uint64_t sectors = op.range.length / sector_size;
    const std::uint64_t pieces = std::clamp<std::uint64_t>(op.vectors, 1, std::max<std::uint64_t>(sectors, 1));
    std::uint64_t at = 0;
    for (std::uint64_t i = 0; i < pieces; i++) {
        const std::uint64_t end = sectors * (i + 1) / pieces * sector_size;
        vectors.push_back({buffer.data() + op.memory_offset + at, end - at});
        at = end;
    }
}

std::unique_ptr<Submitter> make_sync_submitter(const BlockTarget &target, bool direct)
{
    return std::make_unique<SyncSubmitter>(target, direct);
}

std::unique_ptr<Submitter> make_uring_submitter(const BlockTarget &target, bool direct, unsigned depth)
{
    return std::make_unique<UringSubmitter>(target, direct, depth);
}

} // namespace liveblk::test
