// SPDX-License-Identifier: GPL-2.0-only
// new-image FILE SIZE CLUSTER-BITS [BACKING FORMAT]: makes an image as qcow2-maint does, in a file that is not there
// yet.
#include "base/byte_size.hpp"
#include "base/error.hpp"
#include "base/new_file.hpp"
#include "qcow2/create.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <span>

namespace {

using namespace liveblk;

void make(std::span<char *> words)
{
    const qcow2::NewImage image = {.size = parse_bytes(words[1]),
                                   .cluster_bits = static_cast<unsigned>(std::atoi(words[2])),
                                   .backing_file = words.size() > 3 ? words[3] : "",
                                   .backing_format = words.size() > 4 ? words[4] : ""};
    NewFile file(words[0]);
    qcow2::ImageFile opened(file.path(), qcow2::Access::read_write, qcow2::reopen_image_file(file.fd(), true));
    qcow2::create_image(opened, image);
    file.settle();
    file.keep();
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 4 && argc != 6) {
        std::fprintf(stderr, "usage: new-image FILE SIZE CLUSTER-BITS [BACKING FORMAT]\n");
        return EXIT_FAILURE;
    }
    try {
        make(std::span(argv, static_cast<std::size_t>(argc)).subspan(1));
        return EXIT_SUCCESS;
    } catch (const std::exception &e) {
        std::fprintf(stderr, "new-image: %s\n", e.what());
        return EXIT_FAILURE;
    }
}
