// SPDX-License-Identifier: GPL-2.0-only
// Which kernels the modules take for one that they were tested on.
#include <catch2/catch.hpp>

#include "../../kernel/compat/tested.h"

TEST_CASE("a release is of a version if nothing but a dot or a dash follows")
{
    CHECK(compat_is_release_of("6.1.0-57-amd64", LIVEBLK_TESTED_KERNELS));
    CHECK(compat_is_release_of("6.12.117+deb12-amd64", LIVEBLK_TESTED_KERNELS));
    CHECK(compat_is_release_of("6.12.117-debug", LIVEBLK_TESTED_KERNELS));
    CHECK(compat_is_release_of("6.1", "6.1 6.12"));
    CHECK(compat_is_release_of("6.12-rc3", "6.1 6.12"));
    CHECK_FALSE(compat_is_release_of("6.13.2", "6.1 6.12"));
    CHECK_FALSE(compat_is_release_of("6.10.11-amd64", "6.1 6.12"));
    CHECK_FALSE(compat_is_release_of("6.120.1", "6.1 6.12"));
    CHECK_FALSE(compat_is_release_of("5.6.1", "6.1 6.12"));
    CHECK_FALSE(compat_is_release_of("6", "6.1 6.12"));
    CHECK_FALSE(compat_is_release_of("", "6.1 6.12"));
    CHECK_FALSE(compat_is_release_of("6.1.0", ""));
    CHECK(compat_is_release_of("6.12.1", " 6.1  6.12 "));
}
