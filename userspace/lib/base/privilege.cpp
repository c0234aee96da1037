// SPDX-License-Identifier: GPL-2.0-only
#include "base/privilege.hpp"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

namespace liveblk {

bool may_administer()
{
    __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data = {};
    // Where that cannot be asked, whoever is asked to do something knows.
    if (::syscall(SYS_capget, &header, data.data()) != 0)
        return true;
    return data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN);
}

} // namespace liveblk
