// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <string>

namespace liveblk::crash {

// A mounted file system, unmounted at the end of its life.
class Mount {
public:
    Mount(const std::string &device, const std::string &directory, const std::string &type);
    Mount(const Mount &) = delete;
    Mount &operator=(const Mount &) = delete;
    ~Mount();

    // What the destructor does, with errors told.
    void unmount();

private:
    std::string directory_;
    bool mounted_ = false;
};

} // namespace liveblk::crash
