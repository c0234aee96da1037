// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/header.hpp"

#include "base/error.hpp"
#include "qcow2/image_file.hpp"

#include <algorithm>

namespace liveblk::qcow2 {
namespace {

std::string bad_offset(const char *what, std::uint64_t offset)
{
    return fmt::format("the {} has the bad offset {:#x}", what, offset);
}

// What an image is not opened with, and what is said of it. With any other fault it is: to be checked.
struct Refusal {
    qcow2_fault fault;
    std::string (*why)(const Header &);
};
constexpr std::array<Refusal, 15> refusals = {{
    {QCOW2_FAULT_MAGIC, [](const Header &) -> std::string { return "this is not a QCOW2 image"; }},
    {QCOW2_FAULT_VERSION, [](const Header &h) { return fmt::format("unknown version {}", h.version); }},
    {QCOW2_FAULT_CLUSTER_BITS,
     [](const Header &h) {
         return fmt::format("cluster_bits {} is not between {} and {}", h.cluster_bits, min_cluster_bits,
                            max_cluster_bits);
     }},
    {QCOW2_FAULT_REFCOUNT_ORDER,
     [](const Header &h) { return fmt::format("refcount_order {} is more than 6", h.refcount_order); }},
    {QCOW2_FAULT_HEADER_LENGTH,
     [](const Header &h) { return fmt::format("header_length {} is out of range", h.header_length); }},
    {QCOW2_FAULT_COMPRESSION,
     [](const Header &h) { return fmt::format("compression type {} without its feature bit", h.compression_type); }},
    {QCOW2_FAULT_EXTL2_CLUSTERS,
     [](const Header &) -> std::string { return "extended L2 entries need clusters of at least 16 KiB"; }},
    {QCOW2_FAULT_SIZE_LARGE, [](const Header &h) { return fmt::format("the virtual size {} is too large", h.size); }},
    {QCOW2_FAULT_SNAPSHOTS_MANY,
     [](const Header &h) { return fmt::format("{} snapshots are more than {}", h.nb_snapshots, max_snapshots); }},
    {QCOW2_FAULT_SNAPSHOTS_OFFSET, [](const Header &h) { return bad_offset("snapshot table", h.snapshots_offset); }},
    {QCOW2_FAULT_L1_LARGE,
     [](const Header &h) { return fmt::format("the L1 table of {} entries is too large", h.l1_size); }},
    {QCOW2_FAULT_L1_SMALL,
     [](const Header &h) {
         return fmt::format("the L1 table of {} entries is too small for a virtual size of {}", h.l1_size, h.size);
     }},
    {QCOW2_FAULT_L1_OFFSET, [](const Header &h) { return bad_offset("L1 table", h.l1_offset); }},
    {QCOW2_FAULT_REFTABLE_SIZE,
     [](const Header &h) {
         return fmt::format("the refcount table of {} clusters is out of range", h.reftable_clusters);
     }},
    {QCOW2_FAULT_REFTABLE_OFFSET, [](const Header &h) { return bad_offset("refcount table", h.reftable_offset); }},
}};

// Everything that is refused is refused with the name of the file.
class Reader {
public:
    explicit Reader(const ImageFile &file) : file_(file) {}

    Header read()
    {
        file_.read(h_.sector, 0);
        h_.faults = qcow2_header_inspect(h_.sector.data(), h_.sector.size(), &g_);
        take_fields();
        for (const Refusal &r : refusals)
            if (h_.faults & r.fault)
                refuse("{}", r.why(h_));
        read_area();
        return std::move(h_);
    }

private:
    template <typename... Args>
    [[noreturn]] void refuse(fmt::format_string<Args...> text, Args &&...args) const
    {
        fail("read the header of '{}': {}", file_.path(), fmt::format(text, std::forward<Args>(args)...));
    }

    void take_fields()
    {
        h_.version = g_.version;
        h_.cluster_bits = g_.cluster_bits;
        h_.refcount_order = g_.refcount_order;
        h_.crypt_method = g_.crypt_method;
        h_.header_length = g_.header_length;
        h_.compression_type = static_cast<std::uint8_t>(g_.compression_type);
        h_.size = g_.size;
        h_.l1_size = g_.l1_size;
        h_.l1_offset = g_.l1_offset;
        h_.reftable_offset = g_.reftable_offset;
        h_.reftable_clusters = g_.reftable_clusters;
        h_.nb_snapshots = g_.nb_snapshots;
        h_.snapshots_offset = g_.snapshots_offset;
        h_.incompatible = g_.incompat;
        h_.compatible = g_.compat;
        h_.autoclear = g_.autoclear;
    }

    // What follows the fixed header: extensions, and the name of the backing file.
    void read_area()
    {
        std::vector<std::byte> area(h_.cluster_size());
        file_.read(area, 0);
        qcow2_extension bad;
        const std::uint32_t faults = qcow2_extensions_check(area.data(), area.size(), &g_, &bad);
        if (faults & QCOW2_FAULT_BACKING_PLACE)
            refuse("the backing file name at {:#x} is outside of the first cluster", g_.backing_offset);
        if (faults & QCOW2_FAULT_EXTENSION)
            refuse("header extension {:#010x} of {} bytes does not fit", bad.type, bad.length);
        if (faults & QCOW2_FAULT_BACKING_LENGTH)
            refuse("the backing file name of {} bytes is too long", g_.backing_size);
        qcow2_extension next = {};
        while (qcow2_extension_next(area.data(), area.size(), &g_, &next) > 0) {
            const auto data = std::span(area).subspan(next.offset, next.length);
            h_.extensions.push_back({next.type, {data.begin(), data.end()}});
        }
        if (!g_.backing_offset)
            return;
        const auto name = std::span(area).subspan(g_.backing_offset, g_.backing_size);
        h_.backing_file.assign(reinterpret_cast<const char *>(name.data()), name.size());
    }

    const ImageFile &file_;
    qcow2_geometry g_ = {};
    Header h_;
};

} // namespace

qcow2_geometry Header::geometry() const
{
    qcow2_geometry g = {};
    g.version = version;
    g.cluster_bits = cluster_bits;
    g.refcount_order = refcount_order;
    g.l2_bits = l2_bits();
    g.size = size;
    g.l1_size = l1_size;
    g.l1_offset = l1_offset;
    g.reftable_offset = reftable_offset;
    g.reftable_clusters = reftable_clusters;
    g.nb_snapshots = nb_snapshots;
    g.snapshots_offset = snapshots_offset;
    g.incompat = incompatible;
    g.compat = compatible;
    g.autoclear = autoclear;
    g.header_length = header_length;
    g.crypt_method = crypt_method;
    g.compression_type = compression_type;
    return g;
}

const Extension *Header::find(std::uint32_t type) const
{
    const auto it = std::find_if(extensions.begin(), extensions.end(), [&](const auto &e) { return e.type == type; });
    return it == extensions.end() ? nullptr : &*it;
}

std::optional<std::string> Header::text_extension(std::uint32_t type) const
{
    const Extension *e = find(type);
    if (!e)
        return std::nullopt;
    std::string text(e->data.size(), '\0');
    std::transform(e->data.begin(), e->data.end(), text.begin(), [](std::byte b) { return static_cast<char>(b); });
    return text;
}

std::string Header::feature_name(FeatureKind kind, unsigned bit) const
{
    const auto type = static_cast<unsigned>(kind);
    std::array<char, QCOW2_FEATURE_NAME + 1> own;
    const Extension *e = find(extension_feature_names);
    if (e && qcow2_feature_name_in(e->data.data(), e->data.size(), type, bit, own.data()))
        return printable(own.data());
    const char *known = qcow2_feature_name_known(type, bit);
    return known ? known : "unknown";
}

Header read_header(const ImageFile &file)
{
    return Reader(file).read();
}

std::array<std::byte, sector_size> serialise(const Header &header)
{
    auto sector = header.sector;
    const qcow2_geometry g = header.geometry();
    qcow2_header_store(sector.data(), &g);
    return sector;
}

std::string printable(std::string_view text)
{
    std::string out(text);
    for (char &c : out)
        if (static_cast<unsigned char>(c) < ' ' || c == '\x7f')
            c = '?';
    return out;
}

} // namespace liveblk::qcow2
