// SPDX-License-Identifier: GPL-2.0-only
// The image below another one, which a header names in one of the ways that QEMU knows.
#pragma once

#include "qcow2/header.hpp"
#include "qcow2/image_file.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace liveblk::qcow2 {

struct Backing {
    std::string path; // where QEMU looks for it
    std::string format;

    bool operator==(const Backing &) const = default;
};

// What the header of an image says, if it says anything. The name of the image is the one that it is opened by: what is
// relative is relative to that, whatever links there are. Throws if that is no local file or block device, if the
// format is not one of qcow2 and raw, or if it is not said. Nothing is guessed: what looks like a QCOW2 image may be
// what the guest of a raw one has written, so that it would name any file of the host as its own backing file.
std::optional<Backing> backing_of(const std::string &image, const Header &header);

// The size of the disk that is in a file of a format.
std::uint64_t disk_size(const ImageFile &file, const std::string &format);

// The same of the backing file of an image, which is opened for reading; 0 if it has none.
std::uint64_t backing_size(const std::string &image, const Header &header);

} // namespace liveblk::qcow2
