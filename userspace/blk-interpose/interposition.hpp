// SPDX-License-Identifier: GPL-2.0-only
// What create, snapshot and track have in common: make the disks, make devices on the lower one, attach one of them;
// and put everything back if a step fails.
#pragma once

#include "base/signal_shield.hpp"
#include "control.hpp"
#include "dm/block_stack.hpp"
#include "dm/device.hpp"
#include "health.hpp"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace liveblk::interpose {

class Interposition {
public:
    // Makes the pair of disks.
    explicit Interposition(const std::string &original);
    Interposition(const Interposition &) = delete;
    Interposition &operator=(const Interposition &) = delete;
    // Undoes every step unless attach() has succeeded.
    ~Interposition();

    const std::string &lower() const { return pair_.lower; }
    // Its content is the original's, which is to keep its names.
    dm::Device create_device(const std::string &name, const dm::Target &target, dm::Names names = dm::Names::none);
    Times attach(const dm::Device &target);

private:
    std::string original_;
    SignalShield shield_;
    Control control_;
    Pair pair_;
    std::vector<std::function<void()>> undo_;
};

// Throws Error unless the name is free.
void require_free_name(const std::string &name);

// Tells what the search for a way from that device or file to the original has not seen through.
void warn_of_unseen(const stack::BlockStack &stack, const std::string &path, const std::string &original);

// Runs a command that puts everything back when it fails, and says so.
void undoing(const std::function<void()> &command);

// The pair whose target is this device, or none.
std::optional<blk_interposer_status> find_pair(const Control &control, const dm::Device &target);

// What was taken out, and what of it had failed before.
struct Removed {
    Times times;
    std::vector<Failure> failures;
};

// Detaches the device and takes it and the disks away. Others on the lower disk go before it.
Removed remove_interposition(const std::string &name, const std::vector<std::string> &others, bool freeze);

// Milliseconds, for people.
std::string describe(const Times &times);

} // namespace liveblk::interpose
