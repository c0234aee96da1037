// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdint>

namespace liveblk {

bool is_on_xfs(int fd);

// Where in a range of a file on XFS the first written extent begins, as its own map of the file says; end if there is
// none. SEEK_DATA of Linux 6.1 can jump over such an extent: where blocks that are set aside for copy-on-write cover a
// hole, all that they cover counts as one.
std::uint64_t xfs_next_written(int fd, std::uint64_t offset, std::uint64_t end);

} // namespace liveblk
