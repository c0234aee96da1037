// SPDX-License-Identifier: GPL-2.0-only
#include "live/tables.hpp"

#include "qcow2/image_file.hpp"

#include <utility>

namespace liveblk::live {

TableFiles open_files(const dm::Qcow2Table &table, UniqueFd image)
{
    TableFiles files = {.image = std::move(image), .data = {}, .backing = {}};
    if (!table.data_file.empty())
        files.data = qcow2::open_image_file(table.data_file, !table.read_only());
    for (const dm::Below &below : table.backing)
        files.backing.push_back(qcow2::open_image_file(below.image, false));
    return files;
}

void load(const dm::Device &device, const dm::Qcow2Table &table, const TableFiles &files)
{
    std::vector<int> backing;
    for (const UniqueFd &fd : files.backing)
        backing.push_back(fd.get());
    device.load(table.with_fds(files.image.get(), backing, files.data.get(), table.sectors), table.read_only());
}

std::optional<dm::Qcow2Table> table_or_nothing(const std::vector<dm::Target> &table, const std::string &name)
{
    if (table.empty())
        return std::nullopt;
    return dm::parse_qcow2(table, name);
}

bool fit_table(const dm::Device &device, dm::Qcow2Table wanted, const qcow2::Header &header, const TableFiles &files)
{
    const auto active = table_or_nothing(device.table(), device.name());
    const auto inactive = table_or_nothing(device.inactive_table(), device.name());
    wanted.sectors = header.size / qcow2::sector_size;
    if ((header.incompatible & (qcow2::incompat_corrupt | qcow2::incompat_dirty)) && !wanted.read_only())
        wanted.arguments.emplace_back("read_only");
    if (inactive == wanted)
        return true;
    if (inactive)
        device.clear();
    if (active == wanted)
        return false;
    load(device, wanted, files);
    return true;
}

} // namespace liveblk::live
