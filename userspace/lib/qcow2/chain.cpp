// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/chain.hpp"

#include "base/error.hpp"
#include "qcow2/header.hpp"
#include "qcow2/image_file.hpp"

#include <filesystem>
#include <utility>

namespace liveblk::qcow2 {
namespace {

std::string described(const Layer &layer, const Layer *above)
{
    return above ? fmt::format("the backing file '{}' of '{}'", printable(layer.name), above->path)
                 : fmt::format("'{}'", layer.name);
}

void refuse_second_time(const std::vector<Layer> &chain, const Layer &layer)
{
    for (const Layer &other : chain)
        if (is_same_file(other.fd.get(), layer.fd.get()))
            fail("follow the backing files of '{}': {} is in the chain already, as '{}', so that it has no end",
                 chain.front().name, described(layer, &chain.back()), other.path);
}

using Announce = std::function<void(const Layer &)>;

// Opens a file that was announced.
void open_announced(Layer &layer, const std::string &what, bool writable, const Announce &announce)
{
    std::error_code error;
    if (layer.name.find('\0') != std::string::npos)
        fail("find {}: its name has a zero byte", what);
    layer.path = std::filesystem::canonical(layer.name, error);
    if (error)
        fail("find {}: {}", what, error.message());
    announce(layer);
    layer.fd = open_image_file(layer.path, writable);
    // What was announced is what is opened.
    if (std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", layer.fd.get()), error) != layer.path)
        fail("open {}: another file has taken the place of '{}'", what, layer.path);
}

void follow(std::vector<Layer> &chain, Backing name, bool writable, const Announce &announce)
{
    Layer layer = {.name = name.path, .path = {}, .format = name.format, .fd = {}, .below = {}, .data = {}};
    open_announced(layer, described(layer, chain.empty() ? nullptr : &chain.back()), writable, announce);
    refuse_second_time(chain, layer);
    if (layer.format == "qcow2") {
        const Header header = read_header(open_layer(layer, Access::read_only_shared));
        layer.below = backing_of(layer.name, header);
        layer.data = data_file_of(header);
    }
    chain.push_back(std::move(layer));
}

} // namespace

ImageFile open_layer(const Layer &layer, Access access)
{
    return ImageFile(layer.path, access, reopen_image_file(layer.fd.get(), access == Access::read_write));
}

std::vector<Layer> open_chain(const std::string &image, bool writable, const Announce &announce)
{
    std::vector<Layer> chain;
    follow(chain, {image, "qcow2"}, writable, announce);
    while (const auto below = chain.back().below) {
        if (chain.size() == max_layers)
            fail("follow the backing files of '{}': there are more than {}", image, max_layers);
        follow(chain, *below, false, announce);
    }
    return chain;
}

std::optional<std::string> data_file_of(const Header &header)
{
    if (!header.has_data_file())
        return std::nullopt;
    return header.text_extension(extension_data_file).value_or("");
}

Layer open_data_file(const Layer &image, const std::string &name, bool writable, const Announce &announce)
{
    Layer data = {.name = name, .path = {}, .format = "raw", .fd = {}, .below = {}, .data = {}};
    open_announced(data, fmt::format("the data file '{}' of '{}'", printable(name), image.path), writable, announce);
    return data;
}

} // namespace liveblk::qcow2
