// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/error.hpp"

#include <csignal>
#include <functional>

namespace liveblk {

// A signal that ends programs has come.
class Interrupted : public Error {
    using Error::Error;
};

// While it lives no signal but SIGKILL, SIGSTOP and those of the program's own faults ends or stops the process. What
// has come meanwhile has its effect afterwards; of two, one in the life of the other, after the outer one. For the only
// thread of a program.
class SignalShield {
public:
    SignalShield();
    SignalShield(const SignalShield &) = delete;
    SignalShield &operator=(const SignalShield &) = delete;
    ~SignalShield();

    // Throws Interrupted if a signal waits that would have ended the process; ignored ones do not count.
    void check() const;
    bool interrupted() const;
    // Runs a system call that a signal may break off, with EINTR.
    void breakable(const std::function<void()> &call);

private:
    sigset_t old_;
};

} // namespace liveblk
