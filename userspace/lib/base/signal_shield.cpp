// SPDX-License-Identifier: GPL-2.0-only
#include "base/signal_shield.hpp"

#include <array>

namespace liveblk {
namespace {

// Their default action ends the process. SIGXFSZ is left out: the write that caused it fails by itself.
constexpr std::array ending = {SIGHUP,  SIGINT,  SIGQUIT,   SIGPIPE, SIGALRM, SIGTERM,   SIGUSR1,
                               SIGUSR2, SIGPOLL, SIGVTALRM, SIGPROF, SIGXCPU, SIGSTKFLT, SIGPWR};
// What people and service managers break things off with.
constexpr std::array breaking = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};

volatile std::sig_atomic_t came = 0;

void note(int number)
{
    came = number;
}

bool ignored(int number)
{
    struct sigaction action = {};
    return ::sigaction(number, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

// Has note() called for a signal, unless it is ignored.
class Handler {
public:
    explicit Handler(int number) : number_(number), active_(!ignored(number))
    {
        struct sigaction action = {};
        action.sa_handler = note;
        if (active_)
            ::sigaction(number_, &action, &old_);
    }
    Handler(const Handler &) = delete;
    Handler &operator=(const Handler &) = delete;
    ~Handler()
    {
        if (active_)
            ::sigaction(number_, &old_, nullptr);
    }

private:
    int number_;
    bool active_;
    struct sigaction old_ = {};
};

} // namespace

SignalShield::SignalShield()
{
    sigset_t all;
    ::sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS})
        ::sigdelset(&all, fault);
    ::sigprocmask(SIG_BLOCK, &all, &old_);
}

SignalShield::~SignalShield()
{
    ::sigprocmask(SIG_SETMASK, &old_, nullptr);
}

bool SignalShield::interrupted() const
{
    sigset_t waiting;
    ::sigpending(&waiting);
    for (const int number : ending)
        if (::sigismember(&waiting, number) == 1 && !ignored(number))
            return true;
    return false;
}

void SignalShield::check() const
{
    if (interrupted())
        throw Interrupted("interrupted by a signal");
}

void SignalShield::breakable(const std::function<void()> &call)
{
    check();
    came = 0;
    {
        const std::array<Handler, breaking.size()> handlers = {Handler(breaking[0]), Handler(breaking[1]),
                                                               Handler(breaking[2]), Handler(breaking[3])};
        sigset_t some, before;
        ::sigemptyset(&some);
        for (const int number : breaking)
            ::sigaddset(&some, number);
        ::sigprocmask(SIG_UNBLOCK, &some, &before);
        try {
            call();
        } catch (...) {
            ::sigprocmask(SIG_SETMASK, &before, nullptr);
            if (came)
                ::raise(came);
            throw;
        }
        ::sigprocmask(SIG_SETMASK, &before, nullptr);
    }
    // To wait, with its own action, until the shield goes.
    if (came)
        ::raise(came);
}

} // namespace liveblk
