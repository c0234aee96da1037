// SPDX-License-Identifier: GPL-2.0-only
#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "base/json.hpp"
#include "qcow2/chain.hpp"
#include "tiny_image.hpp"

#include <cstring>
#include <filesystem>
#include <optional>

namespace {

using namespace liveblk;
using namespace liveblk::qcow2;
using Catch::Matchers::Contains;
using unit::Scratch;
using unit::TinyImage;

Header header(const std::string &name, const std::optional<std::string> &format)
{
    Header h;
    h.backing_file = name;
    if (!format)
        return h;
    Extension extension = {.type = extension_backing_format, .data = {}};
    for (const char c : *format)
        extension.data.push_back(static_cast<std::byte>(c));
    h.extensions.push_back(extension);
    return h;
}

std::string path_of(const std::string &image, const std::string &name, const std::string &format = "qcow2")
{
    const auto backing = backing_of(image, header(name, format));
    REQUIRE(backing);
    CHECK(backing->format == format);
    return backing->path;
}

std::string refusal(const std::string &name, const std::optional<std::string> &format = "qcow2")
{
    try {
        (void)backing_of("/srv/top", header(name, format));
    } catch (const Error &e) {
        return e.what();
    }
    return "not refused";
}

// An image that is on top of another one.
void save_overlay(const std::string &path, const std::string &name, const std::string &format)
{
    TinyImage tiny;
    tiny.header.backing_file_offset = 1024;
    tiny.header.backing_file_size = static_cast<std::uint32_t>(name.size());
    auto bytes = tiny.bytes();
    const std::size_t at = v3_header_length;
    store(std::span(bytes), at, Be32(extension_backing_format));
    store(std::span(bytes), at + 4, Be32(static_cast<std::uint32_t>(format.size())));
    std::memcpy(&bytes[at + 8], format.data(), format.size());
    std::memcpy(&bytes[1024], name.data(), name.size());
    unit::write_file(path, bytes);
}

std::vector<Layer> chain(const std::string &path)
{
    return open_chain(path, false, [](const Layer &) {});
}

} // namespace

TEST_CASE("a name is relative to the image that has it")
{
    CHECK_FALSE(backing_of("/srv/top", header("", "qcow2")));
    CHECK(path_of("/srv/top", "base") == "/srv/base");
    CHECK(path_of("/srv/top", "../a b/base") == "/srv/../a b/base");
    CHECK(path_of("/srv/top", "/base", "raw") == "/base");
    CHECK(path_of("top", "base") == "base");
    CHECK(path_of("dir/top", "./a:b") == "dir/./a:b");
    CHECK(path_of("/a:b/top", "base") == "/a:b/base");
    CHECK(path_of("/srv/top", "file:/base") == "/base");
    CHECK(path_of("/srv/top", "host_device:/dev/sdb", "raw") == "/dev/sdb");
}

TEST_CASE("the name of a data file is a path, whatever it looks like")
{
    const auto data_file = [](const std::optional<std::string> &name, bool feature = true) {
        Header h;
        h.incompatible = feature ? incompat_data_file : 0;
        if (name) {
            Extension extension = {.type = extension_data_file, .data = {}};
            for (const char c : *name)
                extension.data.push_back(static_cast<std::byte>(c));
            h.extensions.push_back(extension);
        }
        return data_file_of(h);
    };
    CHECK(data_file("data") == "data");
    CHECK(data_file("/srv/data") == "/srv/data");
    CHECK(data_file("file:/srv/data") == "file:/srv/data");
    CHECK(data_file("nbd://host/disk") == "nbd://host/disk");
    CHECK(data_file(R"(json:{"driver":"host_device"})") == R"(json:{"driver":"host_device"})");
    CHECK_FALSE(data_file("data", false));
    CHECK(data_file(std::nullopt) == "");
}

TEST_CASE("a name may be JSON")
{
    CHECK(path_of("/srv/top", R"(json:{"driver":"qcow2","file":{"driver":"file","filename":"/a b"}})") == "/a b");
    CHECK(path_of("/srv/top", R"(json:{"file.filename":"/base","driver":"raw"})", "raw") == "/base");
    CHECK(path_of("/srv/top", R"(json:{"driver":"host_device","filename":"/dev/sdb"})", "raw") == "/dev/sdb");
    CHECK(path_of("/srv/top", R"(json:{"file":{"driver":"file","filename":"/base"}})") == "/base");
    CHECK(path_of("/srv/top", R"(json:{'driver':'qcow2','file':{'filename':'/it\'s "x"'}})") == R"(/it's "x")");
    const auto own = backing_of("/srv/top", header(R"(json:{"driver":"raw","file.filename":"/base"})", {}));
    CHECK(own == Backing{"/base", "raw"});
}

TEST_CASE("names that are not of local files are refused by what they are")
{
    CHECK_THAT(refusal("nbd://host/disk"), Contains("'nbd://host/disk' of '/srv/top'") && Contains("'nbd' is neither"));
    CHECK_THAT(refusal("rbd:pool/disk"), Contains("'rbd' is neither"));
    CHECK_THAT(refusal("disk:1"), Contains("'disk' is neither"));
    CHECK_THAT(refusal("file:base"), Contains("the directory that QEMU is started in"));
    CHECK_THAT(refusal(R"(json:{"driver":"nbd","host":"x"})"), Contains("'nbd' is neither"));
    CHECK_THAT(refusal(R"(json:{"driver":"qcow2","file":{"driver":"ssh","path":"x"}})"), Contains("'ssh' is neither"));
    CHECK_THAT(refusal(R"(json:{"driver":"qcow2","file.filename":"base"})"), Contains("QEMU is started in"));
    CHECK_THAT(refusal(R"(json:{"driver":"raw","offset":512,"file.filename":"/b"})", "raw"), Contains("\"offset\""));
    CHECK_THAT(refusal(R"(json:{"driver":"qcow2","file":"node"})"), Contains("\"file\" is not supported"));
    CHECK_THAT(refusal(R"(json:{"driver":"qcow2"})"), Contains("no member \"file.filename\""));
    CHECK_THAT(refusal("json:{"), Contains("no JSON"));
    CHECK_THAT(refusal("json:[]"), Contains("no JSON object"));
    CHECK_THAT(refusal(R"(json:{"driver":"raw","driver":"qcow2"})"), Contains("twice"));
    CHECK_THAT(refusal(R"(json:{"file":{"filename":"/a"},"file.filename":"/b"})"), Contains("twice"));
    CHECK_THAT(refusal(std::string("a\0b", 3)), Contains("zero byte"));
    CHECK_THAT(refusal("nbd:\x1b[2J"), Contains("nbd:?[2J"));
}

TEST_CASE("the format is not guessed")
{
    CHECK_THAT(refusal("base", std::nullopt), Contains("does not say which format") && Contains("rebase -u -b NAME"));
    CHECK_THAT(refusal("base", ""), Contains("does not say which format"));
    CHECK_THAT(refusal("base", "vmdk"), Contains("\"vmdk\" is neither qcow2 nor raw"));
    CHECK_THAT(refusal(R"(json:{"driver":"raw","file.filename":"/b"})"), Contains("says raw") && Contains("\"qcow2\""));
    CHECK_THAT(refusal(R"(json:{"driver":"file","filename":"/b"})"), Contains("says raw"));
}

TEST_CASE("a chain is followed to its end")
{
    const Scratch scratch;
    std::filesystem::create_directory(scratch.file("below"));
    unit::write_file(scratch.file("below/raw disk"), std::vector<std::byte>(1000));
    save_overlay(scratch.file("below/middle"), "raw disk", "raw");
    save_overlay(scratch.file("top"), "below/middle", "qcow2");
    const auto layers = chain(scratch.file("top"));
    REQUIRE(layers.size() == 3);
    CHECK(layers[1].path == scratch.file("below/middle"));
    CHECK(layers[1].below == Backing{scratch.file("below/raw disk"), "raw"});
    CHECK(layers[2].format == "raw");
    CHECK(disk_size(open_layer(layers[2], Access::read_only), "raw") == 1024);

    SECTION("names are relative to the name of the image above, not to where a link leads")
    {
        std::filesystem::create_symlink("../top", scratch.file("below/link"));
        save_overlay(scratch.file("top"), "middle", "qcow2");
        CHECK(chain(scratch.file("below/link"))[1].path == scratch.file("below/middle"));
    }
    SECTION("a loop, by another name")
    {
        std::filesystem::create_hard_link(scratch.file("top"), scratch.file("again"));
        save_overlay(scratch.file("below/middle"), "../again", "qcow2");
        CHECK_THROWS_WITH(chain(scratch.file("top")), Contains("in the chain already"));
    }
    SECTION("one that is its own backing file")
    {
        save_overlay(scratch.file("top"), "top", "raw");
        CHECK_THROWS_WITH(chain(scratch.file("top")), Contains("in the chain already"));
    }
    SECTION("one that is not there")
    {
        std::filesystem::remove(scratch.file("below/raw disk"));
        CHECK_THROWS_WITH(chain(scratch.file("top")), Contains("raw disk") && Contains("No such file"));
    }
}

TEST_CASE("as many layers as the kernel takes with the descriptors of a process")
{
    const Scratch scratch;
    unit::write_file(scratch.file("0"), TinyImage().bytes());
    for (int i = 1; i <= 400; i++)
        save_overlay(scratch.file(std::to_string(i)), std::to_string(i - 1), "qcow2");
    CHECK(chain(scratch.file("400")).size() == 401);
}
