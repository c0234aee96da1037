// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

#include "base/error.hpp"
#include "base/kernel_module.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <memory>
#include <vector>

namespace liveblk::copy {
namespace {

const std::string configfs = "/sys/kernel/config";
const std::string directory = configfs + "/null-copy";

struct Arguments {
    std::string name;
    std::vector<std::string> values;
};

// A name is one directory, and nothing that leads out of it.
std::string path_of(const std::string &name)
{
    if (name.empty() || name[0] == '.' || name.find('/') != std::string::npos)
        fail("use '{}': it is no name of a disk", name);
    return directory + "/" + name;
}

void write_value(const std::string &path, const std::string &value)
{
    const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd || ::write(fd.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size()))
        fail_errno(fmt::format("write '{}' to '{}'", value, path));
}

std::string read_value(const std::string &path)
{
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::array<char, 64> text{};
    const ssize_t got = fd ? ::read(fd.get(), text.data(), text.size()) : -1;
    if (got < 0)
        fail_errno(fmt::format("read '{}'", path));
    std::string value(text.data(), static_cast<std::size_t>(got));
    while (!value.empty() && value.back() == '\n')
        value.pop_back();
    return value;
}

void set_values(const std::string &path, const std::vector<std::string> &values)
{
    for (const std::string &value : values) {
        const auto equals = value.find('=');
        if (equals == 0 || equals == std::string::npos || value.find('/') < equals)
            fail("set '{}': it is not NAME=VALUE", value);
        write_value(path + "/" + value.substr(0, equals), value.substr(equals + 1));
    }
}

void create(const Arguments &args)
{
    const std::string path = path_of(args.name);
    struct stat st {};
    if (::stat(directory.c_str(), &st) != 0)
        if (const std::string why = load_module("null-copy"); !why.empty())
            fail("make the disk '{}': {}", args.name, why);
    if (::mkdir(path.c_str(), 0755) != 0)
        fail_errno(fmt::format("make '{}'", path));
    try {
        set_values(path, args.values);
        write_value(path + "/power", "1");
        fmt::print("/dev/{}\n", read_value(path + "/disk"));
    } catch (...) {
        ::rmdir(path.c_str());
        throw;
    }
}

void remove(const Arguments &args)
{
    const std::string path = path_of(args.name);
    if (::rmdir(path.c_str()) != 0)
        fail_errno(fmt::format("remove '{}'", path));
}

} // namespace

void add_null(Command root)
{
    Command null = root.command("null", "memory-backed test disks (null-copy)");
    null.needs_command();
    const auto args = std::make_shared<Arguments>();
    Command make = null.command("create", "make a disk and print its path");
    make.add("NAME", args->name, "of the disk in configfs").required();
    make.add("VALUE", args->values, "NAME=VALUE, as in Documentation/null-copy.rst");
    make.action([args] { create(*args); });
    Command unmake = null.command("remove", "remove a disk");
    unmake.add("NAME", args->name, "of the disk in configfs").required();
    unmake.action([args] { remove(*args); });
}

} // namespace liveblk::copy
