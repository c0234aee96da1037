// SPDX-License-Identifier: GPL-2.0-only
#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "base/new_file.hpp"
#include "scratch.hpp"

#include <filesystem>

#include <sys/stat.h>
#include <unistd.h>

namespace {

using namespace liveblk;
using Catch::Matchers::Contains;
using unit::Scratch;

unsigned mode_of(const std::string &path)
{
    struct stat st;
    REQUIRE(::stat(path.c_str(), &st) == 0);
    return st.st_mode & 07777;
}

} // namespace

TEST_CASE("a new file is there only if it is kept")
{
    const Scratch scratch;
    const std::string path = scratch.file("new");
    {
        const NewFile file(path);
        CHECK(file.path() == path);
        CHECK(file.folder() + "/new" == path);
        CHECK(mode_of(path) == 0600);
    }
    CHECK_FALSE(std::filesystem::exists(path));
    {
        NewFile file(path);
        REQUIRE(::pwrite(file.fd(), "x", 1, 0) == 1);
        file.settle();
        file.keep();
    }
    CHECK(unit::file_bytes(path) == std::vector<char>{'x'});
}

TEST_CASE("what has a name already is left alone")
{
    const Scratch scratch;
    unit::write_file(scratch.file("old"), std::vector<std::byte>(3));
    std::filesystem::create_symlink("nothing", scratch.file("link"));
    std::filesystem::create_directory(scratch.file("folder"));
    for (const char *name : {"old", "link", "folder"})
        CHECK_THROWS_WITH(NewFile(scratch.file(name)),
                          Contains(std::string(name) + "': there is something of that name"));
    CHECK(std::filesystem::file_size(scratch.file("old")) == 3);
    CHECK_THROWS_WITH(NewFile(scratch.file("folder/")), Contains("no name of a file"));
    CHECK_THROWS_WITH(NewFile(scratch.file("none/new")), Contains("/none'") && Contains("No such file"));
    CHECK_THROWS_WITH(NewFile(scratch.file("old/new")), Contains("Not a directory"));
}

TEST_CASE("another file in the place of a new one stays")
{
    const Scratch scratch;
    const std::string path = scratch.file("new");
    {
        const NewFile file(path);
        std::filesystem::rename(path, scratch.file("moved"));
        unit::write_file(path, std::vector<std::byte>(2));
    }
    CHECK(std::filesystem::file_size(path) == 2);
    CHECK(std::filesystem::exists(scratch.file("moved")));
}

TEST_CASE("a new file is for those whom another one is for")
{
    const Scratch scratch;
    struct stat like;
    REQUIRE(::stat(scratch.file(".").c_str(), &like) == 0);
    for (const unsigned mode : {0640U, 0600U, 0444U, 0666U, 07755U}) {
        like.st_mode = S_IFREG | mode;
        const NewFile file(scratch.file("new"));
        file.share_like(like);
        CHECK(mode_of(file.path()) == (mode & 0666));
    }
}
