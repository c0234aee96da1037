// SPDX-License-Identifier: GPL-2.0-only
#include "backing.hpp"

#include "error.hpp"

#include <filesystem>

namespace liveblk::qcow2 {

std::uint64_t backing_size(const Image &image)
{
    const Header &h = image.header();
    const std::string shown = printable(h.backing_file);
    if (h.backing_file.find('\0') != std::string::npos)
        fail("find the backing file of '{}': its name has a zero byte", image.path());
    // A relative name is relative to the image.
    const std::filesystem::path path = std::filesystem::path(image.path()).parent_path() / h.backing_file;
    const std::string format = h.text_extension(extension_backing_format).value_or("");
    if (format != "raw" && format != "qcow2")
        not_supported("get the size of the backing file '{}' of '{}': its format \"{}\" is neither raw nor qcow2",
                      shown, image.path(), printable(format));
    // The backing file of a live disk may be in use by others, who do not change it.
    const ImageFile file(path.string(), Access::read_only);
    return format == "raw" ? (file.size() + sector_size - 1) / sector_size * sector_size : read_header(file).size;
}

} // namespace liveblk::qcow2
