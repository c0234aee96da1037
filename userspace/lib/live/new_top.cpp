// SPDX-License-Identifier: GPL-2.0-only
#include "live/new_top.hpp"

#include "base/error.hpp"
#include "base/new_file.hpp"
#include "base/signal_shield.hpp"
#include "live/suspension.hpp"
#include "live/tables.hpp"
#include "qcow2/backing.hpp"
#include "qcow2/bitmaps.hpp"
#include "qcow2/create.hpp"

#include <sys/stat.h>

#include <bit>

namespace liveblk::live {
namespace {

constexpr std::uint64_t least_cluster = 1ULL << QCOW2_MIN_SUPPORTED_CLUSTER_BITS;
constexpr std::uint64_t most_cluster = 1ULL << qcow2::max_cluster_bits;

void require_possible(const dm::Device &device, const dm::Qcow2Table &table, const NewTop &wanted)
{
    const std::string what = fmt::format("put '{}' on top of '{}'", wanted.path, device.name());
    if (table.read_only())
        fail("{}: it is attached read-only, so that nothing would be written there", what);
    if (table.has("no_lock"))
        fail("{}: it is attached with no_lock, so nothing tells that '{}' is its file", what, table.image);
    if (!table.data_file.empty())
        not_supported("{}: its image has an external data file, which dm-qcow2 does not support below another image",
                      what);
    // The present one, and the new one.
    if (table.backing.size() + 2 > qcow2::max_layers)
        fail("{}: its chain has {} images already, and {} are the most", what, table.backing.size() + 1,
             qcow2::max_layers);
    if (wanted.cluster_size && (!std::has_single_bit(*wanted.cluster_size) || *wanted.cluster_size < least_cluster ||
                                *wanted.cluster_size > most_cluster))
        fail("{}: a cluster size is a power of two from {} to {}, and not {}", what, least_cluster, most_cluster,
             *wanted.cluster_size);
}

// A name that outlasts a restart, as the number of a device does not.
std::string lasting_name(const std::string &path)
{
    const auto device = dm::Device::find(path);
    return device ? device->path() : path;
}

unsigned cluster_bits(const NewTop &wanted, const qcow2::Header &present)
{
    return wanted.cluster_size ? static_cast<unsigned>(std::countr_zero(*wanted.cluster_size)) : present.cluster_bits;
}

// Whoever reads the header comes to the image that the device has now.
void require_leads_to(const NewFile &file, const qcow2::ImageFile &image, const std::string &below)
{
    const auto found = qcow2::backing_of(file.path(), qcow2::read_header(image));
    if (!found || !qcow2::is_same_file(qcow2::open_image_file(found->path, false).get(),
                                       qcow2::open_image_file(below, false).get()))
        fail("name '{}' in the header of '{}': the name leads elsewhere", below, file.path());
}

// For those who could use the present image. A block device says nothing of that.
void share(const NewFile &file, const std::string &below)
{
    struct stat st;
    if (::stat(below.c_str(), &st) < 0)
        fail_errno(fmt::format("look at '{}'", below));
    if (S_ISREG(st.st_mode))
        file.share_like(st);
}

void make_image(const NewFile &file, const std::string &below, const qcow2::NewImage &image)
{
    qcow2::ImageFile opened(file.path(), qcow2::Access::read_write, qcow2::reopen_image_file(file.fd(), true));
    qcow2::create_image(opened, image);
    require_leads_to(file, opened, below);
    share(file, below);
    file.settle();
}

// Those that are good; the device has let go of them.
std::vector<std::string> recording(const qcow2::Image &image)
{
    std::vector<std::string> names;
    for (const qcow2::Bitmap &bitmap : qcow2::read_bitmaps(image).bitmaps)
        if (bitmap.enabled() && !bitmap.in_use())
            names.push_back(bitmap.name);
    return names;
}

// Whether a device has an image, or could have it at its next resume.
bool may_have(const dm::Device &device, const std::string &path)
{
    try {
        for (const auto &targets : {device.table(), device.inactive_table()}) {
            const auto table = table_or_nothing(targets, device.name());
            if (table && table->image == path)
                return true;
        }
        return false;
    } catch (const std::exception &) {
        return true;
    }
}

} // namespace

Frozen put_on_top(const dm::Device &device, const NewTop &wanted)
{
    // No signal leaves the new file behind.
    const SignalShield shield;
    Suspension suspension(device, qcow2::Access::read_only, ImageState::sound);
    const dm::Qcow2Table table = suspension.table();
    require_possible(device, table, wanted);
    const qcow2::Header present = read_beside(device).header();
    NewFile file(wanted.path);
    suspension.require_elsewhere(file.path());
    Frozen result = {.path = lasting_name(table.image), .top = file.path(), .bitmaps = {}, .pause = {}};
    make_image(file, table.image,
               {.size = table.sectors * qcow2::sector_size,
                .cluster_bits = cluster_bits(wanted, present),
                .backing_file = qcow2::name_below(file.path(), result.path),
                .backing_format = "qcow2"});
    // From now on it is the device that says whether it is needed.
    file.keep();
    result.pause = suspension.put_on_top(
        file.path(), file.fd(), [&](const qcow2::Image &image) { result.bitmaps = recording(image); },
        [&] {
            if (!may_have(device, file.path()))
                file.remove();
        });
    return result;
}

} // namespace liveblk::live
