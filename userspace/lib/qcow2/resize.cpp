// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/resize.hpp"

#include "base/error.hpp"
#include "qcow2/edit.hpp"
#include "qcow2/l2_tables.hpp"
#include "qcow2/repair.hpp"

#include <algorithm>

namespace liveblk::qcow2 {
namespace {

bool cuts_inside_cluster(const Header &h)
{
    return !h.aligned(h.size);
}

// The rest of the last cluster was never part of the disk and may have anything in it.
void clear_last_cluster(Edit &edit, const std::vector<std::uint64_t> &l1)
{
    const Header &h = edit.image().header();
    const std::uint64_t guest = h.size >> h.cluster_bits;
    const std::uint64_t index = guest >> h.l2_bits();
    L2Reader reader(edit.image());
    if (!l1[index])
        return;
    if (!reader.valid(l1[index]))
        fail("grow '{}': L1 entry {} is not valid; run 'check' to see what is wrong", edit.image().path(), index);
    const auto words = reader.read(l1[index] & offset_mask);
    const std::uint64_t entry = words[(guest & (h.l2_entries() - 1)) * reader.format().stride()];
    const ClusterType type = reader.format().type(entry);
    if (type == ClusterType::compressed)
        not_supported("grow '{}': its last cluster is cut by the size of {} bytes and compressed", edit.image().path(),
                      h.size);
    if (type != ClusterType::normal)
        return;
    const std::uint64_t within = h.size & (h.cluster_size() - 1);
    std::vector<std::byte> rest(h.cluster_size() - within);
    const std::uint64_t at = (entry & offset_mask) + within;
    edit.image().file().read(rest, at);
    if (std::all_of(rest.begin(), rest.end(), [](std::byte b) { return b == std::byte{0}; }))
        return;
    if (!(entry & flag_copied) || edit.refcounts().get((entry & offset_mask) >> h.cluster_bits) != 1)
        not_supported(
            "grow '{}': its last cluster is cut by the size of {} bytes, holds data after that, and is shared "
            "with a snapshot",
            edit.image().path(), h.size);
    std::fill(rest.begin(), rest.end(), std::byte{0});
    // In place: no disk reaches there, neither the old one nor a snapshot's.
    edit.image().file().write(rest, at);
}

void change_size(Image &image, std::uint64_t size, Progress &progress)
{
    const Header &h = image.header();
    Edit edit(image);
    L2Tables tables(edit, progress);
    const std::vector<std::uint64_t> old = image.read_active_l1();
    // Also when it grows: what lies behind the end, such as the state of a virtual machine, must not come into sight.
    std::vector<std::uint64_t> l1 = tables.unmap_from(old, h.clusters_of(std::min(size, h.size)));
    const bool unmapped = !std::equal(old.begin(), old.end(), l1.begin(), l1.end());
    l1.resize(h.l1_entries_for(size));
    if (l1 != old) {
        Header &changed = edit.header();
        edit.free_structure(h.l1_offset, 8ULL * h.l1_size);
        changed.l1_offset = edit.write_table(l1);
        changed.l1_size = static_cast<std::uint32_t>(l1.size());
    }
    if (unmapped)
        tables.require_in_use(image.snapshots().snapshots, l1);
    if (size > h.size && cuts_inside_cluster(h))
        clear_last_cluster(edit, old);
    edit.header().size = size;
    edit.commit();
    edit.give_back();
}

} // namespace

void check_resize(const Image &image, std::uint64_t size, Shrink shrink)
{
    const Header &h = image.header();
    if (size == 0 || size % sector_size)
        fail("resize '{}': {} is not a positive multiple of 512", image.path(), size);
    if (h.l1_entries_for(size) * 8 > max_l1_bytes)
        fail("resize '{}': with clusters of {} bytes, {} bytes are more than an image can have", image.path(),
             h.cluster_size(), size);
    if (size < h.size && shrink == Shrink::refuse)
        fail("resize '{}' from {} to {} bytes: this cuts data off; give --shrink if you mean it", image.path(), h.size,
             size);
    for (const Snapshot &s : image.snapshots().snapshots)
        if (h.version < 3 || !s.disk_size())
            fail("resize '{}': the size of its snapshot {} is not recorded, so it must not change; delete the snapshot "
                 "first",
                 image.path(), printable(s.id));
    if ((h.autoclear & autoclear_bitmaps) && h.find(extension_bitmaps))
        not_supported("resize '{}': images with persistent bitmaps are not supported; remove them first, with "
                      "'qcow2-maint bitmap remove'",
                      image.path());
}

void check_growth(const Image &image, std::uint64_t size, std::uint64_t backing)
{
    const Header &h = image.header();
    if (size > h.size && backing > h.size)
        not_supported("grow '{}': its backing file has {} bytes, more than its {}, and would show in the new part; "
                      "growing such an image is not supported",
                      image.path(), backing, h.size);
}

void resize_image(Image &image, std::uint64_t size, Shrink shrink, std::uint64_t backing, Progress &progress)
{
    check_resize(image, size, shrink);
    check_growth(image, size, backing);
    const Header &h = image.header();
    if (size == h.size)
        return;
    edit_consistently(image, progress, [&] { change_size(image, size, progress); });
}

} // namespace liveblk::qcow2
