// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "aligned_buffer.hpp"
#include "block_target.hpp"
#include "oracle.hpp"
#include "oracle/reader.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace liveblk::crash {

// What a crash must not do; other exceptions mean that the test itself went wrong.
class Corruption : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct CheckOptions {
    std::string target;      // device or file that receives the state of the logged device
    bool raw = false;        // the workload wrote to the logged device, or to the file on it, without a qcow2 image
    std::string lower_fs;    // type of a file system on the logged device that holds the image as a file
    std::string lower_mount; // where to mount that
    std::string image_name;  // of the file in it
    std::string data_name;   // of the file with its external data, if it has one
    std::string attach;      // name to attach the image by through the module; empty: not attached
    std::string guest_fs;    // type of a file system inside the image, holding fsynced files
    std::string guest_mount; // where to mount that
    std::size_t bitmaps = 0; // persistent bitmaps, enabled since the image was empty; 0: not looked at
    std::size_t recheck_every = 8; // points after which the image is checked once more, after the detach
};

// Looks at a state of the logged device as one would after a power loss.
class ImageCheck {
public:
    explicit ImageCheck(CheckOptions options);

    // Throws Corruption.
    void check(std::span<const std::byte> device, const Oracle &oracle);

    // Bitmaps that were not in use, so that it was found out what they hold.
    std::size_t good_bitmaps() const { return good_bitmaps_; }

private:
    void put_on_target(std::span<const std::byte> device);
    void check_raw(std::span<const std::byte> device, const Oracle &oracle) const;
    void check_image(const std::string &image, const Oracle &oracle);
    std::string data_path() const { return options_.lower_mount + "/" + options_.data_name; }
    void read_file(const std::string &path, std::vector<std::byte> &content);
    void check_content(const oracle::Reader &reader, const Oracle &oracle) const;
    void check_bitmaps(const oracle::Reader &reader, const Oracle &oracle);
    void check_attached(const std::string &image, const oracle::Reader &reader, const Oracle &oracle);
    void check_device(const std::string &path, const oracle::Reader &reader);
    void check_guest_files(const std::string &path, const Oracle &oracle) const;
    void qemu_check(const std::string &image, bool repair) const;

    CheckOptions options_;
    test::BlockTarget target_;
    test::AlignedBuffer buffer_;
    std::vector<std::byte> data_;
    std::vector<std::byte> image_; // kept from point to point: fresh memory is dear in a VM
    std::size_t points_ = 0;
    std::size_t good_bitmaps_ = 0;
};

} // namespace liveblk::crash
