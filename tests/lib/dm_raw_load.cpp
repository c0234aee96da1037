// SPDX-License-Identifier: GPL-2.0-only
// dm-raw-load NAME SECTORS TARGET PARAMETERS: load a table into a device as it is.
// libdevmapper doubles each backslash in a table, so dmsetup cannot escape a blank.
#include "base/unique_fd.hpp"
#include "error.hpp"

#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>

#include <cstring>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace liveblk::test;

template <std::size_t N>
void copy_name(char (&field)[N], const std::string &name)
{
    if (name.size() >= N)
        throw std::invalid_argument("too long: " + name);
    std::memcpy(field, name.c_str(), name.size() + 1);
}

std::vector<char> request(const std::string &name, std::uint64_t sectors, const std::string &type,
                          const std::string &parameters)
{
    dm_ioctl head{};
    dm_target_spec spec{};
    head.version[0] = DM_VERSION_MAJOR;
    head.data_start = sizeof(head);
    head.target_count = 1;
    copy_name(head.name, name);
    copy_name(spec.target_type, type);
    spec.length = sectors;
    const std::size_t length = (sizeof(spec) + parameters.size() + 1 + 7) / 8 * 8;
    spec.next = static_cast<std::uint32_t>(length);
    std::vector<char> data(sizeof(head) + length);
    head.data_size = static_cast<std::uint32_t>(data.size());
    std::memcpy(data.data(), &head, sizeof(head));
    std::memcpy(data.data() + sizeof(head), &spec, sizeof(spec));
    std::memcpy(data.data() + sizeof(head) + sizeof(spec), parameters.c_str(), parameters.size() + 1);
    return data;
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 5) {
        std::cerr << "usage: dm-raw-load NAME SECTORS TARGET PARAMETERS" << std::endl;
        return 2;
    }
    try {
        auto data = request(argv[1], std::stoull(argv[2]), argv[3], argv[4]);
        const liveblk::UniqueFd control(::open("/dev/mapper/control", O_RDWR | O_CLOEXEC));
        if (!control)
            throw_errno("open /dev/mapper/control");
        if (::ioctl(control.get(), DM_TABLE_LOAD, data.data()))
            throw_errno(std::string("load a table into ") + argv[1]);
        return 0;
    } catch (const std::exception &error) {
        std::cerr << "dm-raw-load: " << error.what() << std::endl;
        return 1;
    }
}
