// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace liveblk::maint {

struct Layer {
    std::string path; // absolute, no links in it
    std::string format;
};

// The image and its backing files, nearest first. Each is opened for reading, as the format that the layer above names,
// after it was announced. Throws if one is not there, has neither of the formats qcow2 and raw, or if the chain does
// not end.
std::vector<Layer> backing_chain(const std::string &path, const std::function<void(const Layer &)> &announce);

} // namespace liveblk::maint
