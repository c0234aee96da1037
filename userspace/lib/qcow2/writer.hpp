// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "qcow2/image_file.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace liveblk::qcow2 {

// Joins writes to consecutive places into large ones.
class Writer {
public:
    explicit Writer(ImageFile &file) : file_(file) { pending_.reserve(capacity); }

    void write(std::span<const std::byte> bytes, std::uint64_t offset)
    {
        if (offset != start_ + pending_.size() || pending_.size() + bytes.size() > capacity)
            flush();
        if (pending_.empty())
            start_ = offset;
        if (bytes.size() > capacity)
            file_.write(bytes, offset);
        else
            pending_.insert(pending_.end(), bytes.begin(), bytes.end());
    }

    void flush()
    {
        file_.write(pending_, start_);
        pending_.clear();
    }

private:
    static constexpr std::size_t capacity = 4 << 20;

    ImageFile &file_;
    std::uint64_t start_ = 0;
    std::vector<std::byte> pending_;
};

} // namespace liveblk::qcow2
