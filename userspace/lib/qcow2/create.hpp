// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "qcow2/image_file.hpp"

#include <cstdint>
#include <string>

namespace liveblk::qcow2 {

// An image to be made: of version 3, with 16-bit refcounts, and nothing allocated.
struct NewImage {
    std::uint64_t size = 0; // of the disk, in bytes
    unsigned cluster_bits = 16;
    // As the header is to say it; both empty for none.
    std::string backing_file;
    std::string backing_format;
};

// Writes it to an empty file. The header comes last, and nothing is made durable. Throws, with nothing written, if no
// image can be like that.
void create_image(ImageFile &file, const NewImage &image);

// What the header of an image is to call one below it, by the absolute paths of both without links: the file name alone
// if they lie in one directory, so that this can be moved as a whole, else the path.
std::string name_below(const std::string &image, const std::string &below);

} // namespace liveblk::qcow2
