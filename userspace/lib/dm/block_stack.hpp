// SPDX-License-Identifier: GPL-2.0-only
// What block devices and files are made of: which others a write to them ends up in.
#pragma once

#include "base/error.hpp"
#include "dm/mounts.hpp"
#include "dm/redirections.hpp"
#include "dm/sysfs.hpp"

#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

namespace liveblk::stack {

// From the top to the bottom: devices, files, and folders of an overlay, as people call them.
using Way = std::vector<std::string>;
std::string describe(const Way &way);

// There is something below that this process cannot see, as a folder of another mount namespace.
class Hidden : public Error {
    using Error::Error;
};

// Sees through partitions, device-mapper (the files of dm-qcow2 too), md and its bitmap files, loop devices and those
// of loop-copy, bcache, zram, blk-interposer, file systems on several devices, and overlays. It is the stack of the
// moment that it was made in, so one is for one question.
class BlockStack {
public:
    BlockStack();

    // How what is written to a device, or to a file, gets to the bottom one. A whole disk leads to its partitions, but
    // one partition not to another. Nothing if it does not, as far as can be seen. Throws Hidden.
    std::optional<Way> way(DeviceNumber from, DeviceNumber bottom);
    std::optional<Way> way_of_file(const std::string &path, DeviceNumber bottom);

    // What was met and leads to where this program cannot see, as a server does.
    const std::set<std::string> &unseen() const { return unseen_; }

private:
    // One down, past what has no number.
    struct Step {
        Way past;
        DeviceNumber device = 0;
        bool redirected = true; // false: past a target that is attached to it
        bool whole = true;      // false: a part of it
    };
    using Steps = std::vector<Step>;

    bool find(const Step &step, DeviceNumber bottom, Way &way);
    bool find_in(const Steps &steps, DeviceNumber bottom, Way &way);
    Steps below(DeviceNumber device, bool redirected);

    void add_redirections(DeviceNumber device, bool redirected, Steps &steps) const;
    void add_loop(DeviceNumber device, Steps &steps);
    void add_loop_copy(DeviceNumber device, Steps &steps);
    void add_tables(DeviceNumber device, Steps &steps);
    void add_md_bitmap(DeviceNumber device, Steps &steps);
    void add_bcache(DeviceNumber device, Steps &steps) const;
    void add_zram(DeviceNumber device, Steps &steps);
    void add_server(DeviceNumber device, Steps &steps);

    void add_path(const std::string &path, Way past, Steps &steps);
    void add_mount(const Mount &mount, const Way &past, Steps &steps);
    void add_overlay(const Mount &mount, const Way &past, Steps &steps);
    const Mount *find_mount(std::uint64_t id) const;
    const Mount *find_mount_of(DeviceNumber device) const;

    std::vector<Mount> mounts_;
    std::vector<Redirection> redirections_;
    std::set<std::tuple<DeviceNumber, bool, bool>> seen_;
    std::set<std::string> unseen_;
};

} // namespace liveblk::stack
