// SPDX-License-Identifier: GPL-2.0-only
#pragma once

namespace liveblk::live {

// Makes the program need nothing but memory that it has: neither its own files, nor swap, nor what the kernel would
// have to write out first. For all of the rest of its life.
void stay_in_memory();

// Writes out what a file system on a block device still has in memory, as far as it can be found among the mounts, so
// that less is left to be done while the device is suspended. Advice only: nothing is said if it fails.
void write_out_mounts(unsigned major, unsigned minor);

} // namespace liveblk::live
