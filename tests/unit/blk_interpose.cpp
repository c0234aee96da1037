// SPDX-License-Identifier: GPL-2.0-only
// What blk-interpose makes of lines of mountinfo and of status lines of device-mapper; those that no VM can bring about
// too.
#include "dm/block_stack.hpp"
#include "dm/mounts.hpp"
#include "health.hpp"
#include "users.hpp"

#include <catch2/catch.hpp>

using namespace liveblk;
using namespace liveblk::interpose;

namespace {

stack::Mount mount_of(const std::string &line)
{
    const auto mount = stack::parse_mount(line, "");
    REQUIRE(mount);
    return *mount;
}

std::string reason(const std::string &type, const std::string &params)
{
    return failure_of({.start = 0, .length = 8, .type = type, .params = params}).value_or("");
}

} // namespace

TEST_CASE("lines of mountinfo")
{
    const auto ext4 =
        mount_of("36 25 8:17 /folder /mnt/a\\040b rw,noatime shared:1 master:2 - ext4 /dev/sdb1 rw,dax=never");
    CHECK(ext4.id == 36);
    CHECK(ext4.device == stack::make_number(8u, 17u));
    CHECK(ext4.point == "/mnt/a b");
    CHECK(ext4.type == "ext4");
    CHECK(ext4.source == "/dev/sdb1");
    CHECK(ext4.has("dax=never"));
    CHECK_FALSE(ext4.has("dax"));

    const auto bare = mount_of("36 25 0:40 / / rw - tmpfs none rw");
    CHECK(bare.type == "tmpfs");
    CHECK_FALSE(stack::parse_mount("", ""));
    CHECK_FALSE(stack::parse_mount("1 2 3 4 5 6 7 8", ""));
    CHECK_FALSE(stack::parse_mount("36 25 x:y / / rw - ext4 /dev/sda rw", ""));
}

TEST_CASE("options that are escaped")
{
    const auto overlay = mount_of(
        "36 25 0:40 / /m rw - overlay none rw,lowerdir=/a\\134:b:/c\\054d,upperdir=/u,workdir=/w,lowerdir+=/e");
    CHECK(overlay.values("lowerdir") == std::vector<std::string>{"/a\\:b:/c,d"});
    CHECK(overlay.values("lowerdir+") == std::vector<std::string>{"/e"});
    CHECK(overlay.values("upperdir") == std::vector<std::string>{"/u"});
    CHECK(overlay.values("upper").empty());
    CHECK(stack::unescape("a\\040b\\") == "a b\\");
    CHECK(stack::unescape("\\999") == "\\999");
}

TEST_CASE("file systems that can be redirected")
{
    const std::string line = "36 25 8:17 / /mnt rw - ";
    for (const char *type : {"ext4", "xfs", "btrfs", "vfat"})
        CHECK_FALSE(objection_to(mount_of(line + type + " /dev/sdb1 rw"), false));
    for (const char *type : {"bcachefs", "zfs", "fuseblk", "unheard-of"})
        CHECK(objection_to(mount_of(line + type + " /dev/sdb1 rw"), false));
    for (const char *options : {"rw,dax", "rw,dax=always"})
        for (const char *type : {"ext2", "ext4", "xfs", "erofs"})
            CHECK(objection_to(mount_of(line + type + " /dev/pmem0 " + options), true));
    for (const char *type : {"ext4", "xfs"}) {
        CHECK(objection_to(mount_of(line + type + " /dev/pmem0 rw"), true));
        CHECK(objection_to(mount_of(line + type + " /dev/pmem0 rw,dax=inode"), true));
        CHECK_FALSE(objection_to(mount_of(line + type + " /dev/pmem0 rw,dax=never"), true));
    }
    CHECK_FALSE(objection_to("linear"));
    CHECK(objection_to("unheard-of"));
}

TEST_CASE("status lines of targets that have failed")
{
    CHECK(reason("snapshot", "16/2048 16").empty());
    CHECK(reason("snapshot", "Invalid").find("lost") != std::string::npos);
    CHECK(reason("snapshot", "Overflow").find("full") != std::string::npos);
    CHECK(reason("snapshot-merge", "Merge failed").find("merge") != std::string::npos);
    CHECK(reason("snapshot-origin", "").empty());
    CHECK(reason("linear", "").empty());

    CHECK(reason("era", "8 24/4096 7 -").empty());
    CHECK(reason("era", "8 4096/4096 7 -").find("full") != std::string::npos);
    CHECK_FALSE(reason("era", "Error").empty());

    const std::string pool = "1 12/1024 4096/4096 - ";
    CHECK(reason("thin-pool", pool + "rw discard_passdown queue_if_no_space - 1024").empty());
    CHECK(reason("thin-pool", pool + "out_of_data_space discard_passdown queue_if_no_space - 1024").find("space") !=
          std::string::npos);
    CHECK(reason("thin-pool", pool + "ro discard_passdown queue_if_no_space needs_check 1024").find("checked") !=
          std::string::npos);
    CHECK_FALSE(reason("thin-pool", "Fail").empty());
    CHECK(reason("thin", "4096 8191").empty());
    CHECK_FALSE(reason("thin", "Fail").empty());

    CHECK(reason("mirror", "2 253:1 253:2 100/100 1 AA 1 core").empty());
    CHECK_FALSE(reason("mirror", "2 253:1 253:2 100/100 1 AD 1 core").empty());
    CHECK(reason("raid", "raid1 2 AA 100/100 idle 0 0 -").empty());
    CHECK_FALSE(reason("raid", "raid1 2 AD 100/100 idle 0 0 -").empty());
    CHECK(reason("writecache", "0 100 50 0").empty());
    CHECK_FALSE(reason("writecache", "-5 100 50 0").empty());
    CHECK(reason("log-writes", "17 2047").empty());
    CHECK_FALSE(reason("log-writes", "17 2047 logging_disabled").empty());
    CHECK_FALSE(reason("verity", "C").empty());
    CHECK(reason("verity", "V").empty());
    CHECK(reason("qcow2", "rw 5/16 1 2 3").empty());
    CHECK_FALSE(reason("qcow2", "fail 5/16 1 2 3").empty());
}
