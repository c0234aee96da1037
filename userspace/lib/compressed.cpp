// SPDX-License-Identifier: GPL-2.0-only
#include "compressed.hpp"

#include "l2_tables.hpp"

#include <algorithm>
#include <unordered_set>

namespace liveblk::qcow2 {

std::optional<std::uint64_t> first_compressed(const Image &image, Progress &progress)
{
    const Header &h = image.header();
    const std::vector<std::uint64_t> l1 = image.read_active_l1();
    L2Reader reader(image);
    std::unordered_set<std::uint64_t> seen;
    progress.begin("look for compressed clusters", reader.bytes_of_tables(l1));
    for (std::size_t i = 0; i < l1.size(); i++) {
        if (!l1[i])
            continue;
        progress.advance(h.cluster_size());
        const std::uint64_t table = l1[i] & offset_mask;
        if (!reader.valid(l1[i]) || !seen.insert(table).second || image.file().is_hole(table, h.cluster_size()))
            continue;
        reader.prefetch(l1, i);
        const auto words = reader.read(table);
        for (std::size_t w = 0; w < words.size(); w += reader.format().stride()) {
            if (!(words[w] & flag_compressed))
                continue;
            progress.end();
            return ((std::uint64_t{i} << h.l2_bits()) + w / reader.format().stride()) << h.cluster_bits;
        }
    }
    progress.end();
    return std::nullopt;
}

} // namespace liveblk::qcow2
