// SPDX-License-Identifier: GPL-2.0-only
// What may be written when, and what a crash at any point leaves: meta/ and map/ of dm-qcow2 on a simulated disk that
// crashes at every write and every flush.
#include "history.hpp"
#include "seed.hpp"

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include <cstdlib>
#include <iostream>
#include <string>

using namespace liveblk::unit;
using namespace liveblk::unit::txn;

namespace {

unsigned rounds(unsigned by_default)
{
    const char *text = std::getenv("LIVEBLK_ROUNDS");
    return text ? static_cast<unsigned>(std::stoul(text)) : by_default;
}

// The seed of a history is all that is needed to see it again: LIVEBLK_ROUNDS=1 LIVEBLK_SEED=that.
void run_histories(const char *what, Theme theme, unsigned by_default)
{
    Totals t;
    for (std::uint64_t s = seed(), end = s + rounds(by_default); s < end; s++) {
        const std::string bad = run_history(s, theme, t);
        if (!bad.empty())
            FAIL(what << ", seed " << s << ": " << bad);
    }
    std::cout << fmt::format(
        "{}: {} histories, {} writes, {} flushes, {} crashes ({} reloaded), {} requests failed, {} "
        "out of space, {} closes failed, {} tables moved\n",
        what, t.histories, t.writes, t.flushes, t.crashes, t.crash_reloads, t.failed_requests, t.out_of_space,
        t.failed_closes, t.moved_reftables);
    if (t.histories > 100)
        CHECK(t.crashes > t.histories);
}

} // namespace

TEST_CASE("a crash leaves nothing worse than leaks, and all that was flushed")
{
    run_histories("any", Theme::any, 600);
}

TEST_CASE("so while the refcount table moves")
{
    run_histories("growing table", Theme::growing_table, 150);
}

TEST_CASE("what was set free can be had when there is no other space left")
{
    run_histories("short of space", Theme::short_of_space, 250);
}

TEST_CASE("so when there is more metadata than is cached")
{
    run_histories("much metadata", Theme::much_metadata, 60);
}

TEST_CASE("so when more is to be freed than there is memory for")
{
    run_histories("many frees", Theme::many_frees, 30);
}

TEST_CASE("so of subclusters, each by itself")
{
    run_histories("extended", Theme::extended, 250);
}
