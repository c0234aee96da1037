// SPDX-License-Identifier: GPL-2.0-only
#pragma once

namespace liveblk {

// Whether this process has CAP_SYS_ADMIN, which device-mapper and the modules want of those who use them.
bool may_administer();

// What to say to those who do not.
inline constexpr const char *root_only = "only root may do that (the capability CAP_SYS_ADMIN is missing)";

} // namespace liveblk
