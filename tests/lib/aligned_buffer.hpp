// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>

namespace liveblk::test {

// Memory fit for direct I/O.
class AlignedBuffer {
public:
    static constexpr std::size_t alignment = 4096;

    AlignedBuffer() = default;
    explicit AlignedBuffer(std::size_t size) : size_(size)
    {
        const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
        data_.reset(static_cast<std::byte *>(std::aligned_alloc(alignment, rounded)));
        if (!data_)
            throw std::bad_alloc();
    }

    std::byte *data() { return data_.get(); }
    std::size_t size() const { return size_; }
    std::span<std::byte> span(std::size_t offset, std::size_t length) { return {data_.get() + offset, length}; }

private:
    struct Free {
        void operator()(std::byte *p) const { std::free(p); }
    };
    std::unique_ptr<std::byte, Free> data_;
    std::size_t size_ = 0;
};

} // namespace liveblk::test
