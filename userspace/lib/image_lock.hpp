// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <string>

namespace liveblk::qcow2 {

// Locks an open image against QEMU, its tools, live dm-qcow2 devices and other calls of ours, the way QEMU does it.
// The lock goes with the open file. Throws if somebody else has the image, and says who as far as that can be known.
void lock_image(int fd, const std::string &path, bool writable);

} // namespace liveblk::qcow2
