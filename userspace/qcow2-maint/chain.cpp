// SPDX-License-Identifier: GPL-2.0-only
#include "chain.hpp"

#include "error.hpp"
#include "header.hpp"
#include "image_file.hpp"

#include <filesystem>

namespace liveblk::maint {
namespace {

constexpr std::size_t max_layers = 256;

} // namespace

std::vector<Layer> backing_chain(const std::string &path, const std::function<void(const Layer &)> &announce)
{
    std::vector<Layer> layers = {{path, "qcow2"}};
    announce(layers.back());
    while (layers.back().format == "qcow2") {
        const std::string above = layers.back().path;
        // Its own lock does not matter here: nothing but the header is read.
        const qcow2::Header h = qcow2::read_header(qcow2::ImageFile(above, qcow2::Access::read_only_shared));
        if (h.backing_file.empty())
            break;
        const std::string shown = qcow2::printable(h.backing_file);
        if (layers.size() == max_layers)
            fail("follow the backing files of '{}': there are more than {}, or one is its own", path, max_layers);
        if (h.backing_file.find('\0') != std::string::npos)
            fail("find the backing file of '{}': its name has a zero byte", above);
        const std::string format = h.text_extension(qcow2::extension_backing_format).value_or("");
        if (format != "qcow2" && format != "raw")
            not_supported("follow the backing files of '{}': the format of '{}' is \"{}\", neither qcow2 nor raw",
                          above, shown, qcow2::printable(format));
        std::error_code error;
        const auto next =
            std::filesystem::canonical(std::filesystem::path(above).parent_path() / h.backing_file, error);
        if (error)
            fail("find the backing file '{}' of '{}': {}", shown, above, error.message());
        layers.push_back({next.string(), format});
        announce(layers.back());
    }
    return layers;
}

} // namespace liveblk::maint
