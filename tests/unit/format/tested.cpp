// SPDX-License-Identifier: GPL-2.0-only
// Which kernels the modules take for one that they were tested on.
#include <catch2/catch.hpp>

#include "../../../kernel/compat/tested.h"

#include <sstream>
#include <string>

TEST_CASE("each tested version is one whose releases are known by their names")
{
    std::istringstream versions(LIVEBLK_TESTED_KERNELS);
    unsigned count = 0;
    for (std::string version; versions >> version; count++) {
        CHECK(compat_is_release_of((version + ".0-57-amd64").c_str(), LIVEBLK_TESTED_KERNELS));
        CHECK(compat_is_release_of((version + ".117+deb12-amd64").c_str(), LIVEBLK_TESTED_KERNELS));
        CHECK(compat_is_release_of((version + ".117-debug").c_str(), LIVEBLK_TESTED_KERNELS));
    }
    CHECK(count >= 1);
}

TEST_CASE("a release is of a version if nothing but a dot or a dash follows")
{
    CHECK(compat_is_release_of("4.1", "4.1 4.12"));
    CHECK(compat_is_release_of("4.12-rc3", "4.1 4.12"));
    CHECK_FALSE(compat_is_release_of("4.13.2", "4.1 4.12"));
    CHECK_FALSE(compat_is_release_of("4.10.11-amd64", "4.1 4.12"));
    CHECK_FALSE(compat_is_release_of("4.120.1", "4.1 4.12"));
    CHECK_FALSE(compat_is_release_of("5.4.1", "4.1 4.12"));
    CHECK_FALSE(compat_is_release_of("4", "4.1 4.12"));
    CHECK_FALSE(compat_is_release_of("", "4.1 4.12"));
    CHECK_FALSE(compat_is_release_of("4.1.0", ""));
    CHECK(compat_is_release_of("4.12.1", " 4.1  4.12 "));
}
