// SPDX-License-Identifier: GPL-2.0-only
#include <catch2/catch.hpp>

#include "base/signal_shield.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

using liveblk::Interrupted;
using liveblk::SignalShield;

namespace {

volatile std::sig_atomic_t delivered = 0;

// A handler for the test, and what was there before at the end.
class Delivery {
public:
    Delivery(int number, void (*handler)(int)) : number_(number)
    {
        struct sigaction action = {};
        action.sa_handler = handler;
        ::sigaction(number, &action, &old_);
        delivered = 0;
    }
    ~Delivery() { ::sigaction(number_, &old_, nullptr); }

private:
    int number_;
    struct sigaction old_ = {};
};

void count(int)
{
    delivered = delivered + 1;
}

} // namespace

TEST_CASE("a signal waits until the shield is gone")
{
    const Delivery delivery(SIGTERM, count);
    {
        const SignalShield shield;
        CHECK_NOTHROW(shield.check());
        ::raise(SIGTERM);
        CHECK(delivered == 0);
        CHECK(shield.interrupted());
        CHECK_THROWS_AS(shield.check(), Interrupted);
    }
    CHECK(delivered == 1);
}

TEST_CASE("with one shield in the life of another a signal waits for the outer one")
{
    const Delivery delivery(SIGTERM, count);
    {
        const SignalShield outer;
        {
            SignalShield inner;
            CHECK_NOTHROW(inner.breakable([] {}));
            ::raise(SIGTERM);
        }
        CHECK(delivered == 0);
        CHECK(outer.interrupted());
    }
    CHECK(delivered == 1);
}

TEST_CASE("an ignored signal interrupts nothing")
{
    const Delivery delivery(SIGHUP, SIG_IGN);
    SignalShield shield;
    ::raise(SIGHUP);
    CHECK_FALSE(shield.interrupted());
    CHECK_NOTHROW(shield.breakable([] { ::raise(SIGHUP); }));
    CHECK_FALSE(shield.interrupted());
}

TEST_CASE("a signal breaks off a call, and has its effect afterwards")
{
    const Delivery delivery(SIGTERM, count);
    {
        SignalShield shield;
        int result = 0;
        int error = 0;
        shield.breakable([&] {
            const pid_t child = ::fork();
            // Again and again, as the first one may come before the call.
            while (child == 0) {
                ::usleep(10'000);
                ::kill(::getppid(), SIGTERM);
            }
            result = ::pause();
            error = errno;
            ::kill(child, SIGKILL);
            ::waitpid(child, nullptr, 0);
        });
        CHECK(result == -1);
        CHECK(error == EINTR);
        CHECK(delivered == 0);
        CHECK(shield.interrupted());
        bool ran = false;
        CHECK_THROWS_AS(shield.breakable([&] { ran = true; }), Interrupted);
        CHECK_FALSE(ran);
    }
    CHECK(delivered == 1);
}
