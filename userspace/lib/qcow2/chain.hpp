// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/unique_fd.hpp"
#include "qcow2/backing.hpp"

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace liveblk::qcow2 {

// Each takes a descriptor, of which a process has 1024 where nobody has changed that.
inline constexpr std::size_t max_layers = 1000;

// An image of a chain, open.
struct Layer {
    std::string name; // as it is named by whoever asks, or by the image above
    std::string path; // absolute, no links in it
    std::string format;
    UniqueFd fd;
    std::optional<Backing> below;    // what its header says
    std::optional<std::string> data; // the same of an external data file
};

// The file of a layer once more, with a lock of its own.
ImageFile open_layer(const Layer &layer, Access access);

// The image and its backing files, nearest first. Each is opened after it was announced: the first for reading, and for
// writing if asked for, the others for reading, as the format that the layer above names. Throws if one is not there or
// is not what backing_of() takes, or if the chain does not end.
std::vector<Layer> open_chain(const std::string &image, bool writable,
                              const std::function<void(const Layer &)> &announce);

// What a header calls the external data file of its image: the path, as for QEMU, whatever it looks like; a relative
// one is relative to the directory that the program was started in, not to the image.
std::optional<std::string> data_file_of(const Header &header);

// The data file of an image, opened after it was announced.
Layer open_data_file(const Layer &image, const std::string &name, bool writable,
                     const std::function<void(const Layer &)> &announce);

} // namespace liveblk::qcow2
