// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/unique_fd.hpp"

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace liveblk::qcow2 {

enum class Access {
    read_only,
    read_only_shared, // without a lock, beside a writer: what is read may be in the middle of a change
    read_write,
};

// Opens what may hold an image, without a lock.
UniqueFd open_image_file(const std::string &path, bool writable);
// The same file again, whatever names it has by now; locks are of each on its own.
UniqueFd reopen_image_file(int fd, bool writable);
// Whether two are one file or one block device.
bool is_same_file(const struct stat &a, const struct stat &b);
bool is_same_file(int fd, int other);

// A regular file or a block device that holds an image. All that is ever written to an image goes through write().
class ImageFile {
public:
    ImageFile(std::string path, Access access);
    // Of a file that is open already, for as much as the access needs.
    ImageFile(std::string path, Access access, UniqueFd fd);

    const std::string &path() const { return path_; }
    bool is_block_device() const { return block_device_; }
    bool writable() const { return access_ == Access::read_write; }
    std::uint64_t size() const { return size_; }
    // What the host has allocated for it.
    std::uint64_t host_bytes() const;

    // The file may end inside its last cluster; what is missing reads as zeros.
    void read(std::span<std::byte> bytes, std::uint64_t offset) const;
    // Where from offset on, and before end, the host has something allocated; end if nothing. The rest reads as zeros.
    std::uint64_t next_data(std::uint64_t offset, std::uint64_t end) const;
    // Where from offset on that ends.
    std::uint64_t next_hole(std::uint64_t offset, std::uint64_t end) const;
    bool is_hole(std::uint64_t offset, std::uint64_t length) const
    {
        return next_data(offset, offset + length) == offset + length;
    }
    void prefetch(std::uint64_t offset, std::uint64_t length) const;

    void write(std::span<const std::byte> bytes, std::uint64_t offset);
    // Returns when all that was written is durable, and nothing later is before.
    void barrier();
    // Cuts a regular file; a device keeps its size.
    void truncate(std::uint64_t size);
    // Gives unused space back to the host, if the host can take it.
    void punch(std::uint64_t offset, std::uint64_t length);

private:
    std::string path_;
    Access access_;
    UniqueFd fd_;
    bool block_device_ = false;
    std::uint64_t size_ = 0;
};

} // namespace liveblk::qcow2
