// SPDX-License-Identifier: GPL-2.0-only
#include "header.hpp"

#include "error.hpp"
#include "image_file.hpp"

#include <algorithm>
#include <cstring>

namespace liveblk::qcow2 {
namespace {

constexpr std::uint32_t max_backing_file_size = 1023;
constexpr std::size_t compression_type_at = 104;

// Everything that is refused is refused with the name of the file.
class Parser {
public:
    explicit Parser(const ImageFile &file) : file_(file) {}

    Header parse()
    {
        read_fixed();
        check_basics();
        check_active_tables();
        read_extensions();
        read_backing_file();
        return std::move(h_);
    }

private:
    template <typename... Args>
    [[noreturn]] void refuse(fmt::format_string<Args...> text, Args &&...args) const
    {
        fail("read the header of '{}': {}", file_.path(), fmt::format(text, std::forward<Args>(args)...));
    }

    void read_fixed()
    {
        file_.read(h_.sector, 0);
        const auto raw = load<RawHeader>(h_.sector, 0);
        if (raw.magic.value() != magic)
            refuse("this is not a QCOW2 image");
        h_.version = raw.version.value();
        if (h_.version != 2 && h_.version != 3)
            refuse("unknown version {}", h_.version);
        h_.cluster_bits = raw.cluster_bits.value();
        h_.size = raw.size.value();
        h_.crypt_method = raw.crypt_method.value();
        h_.l1_size = raw.l1_size.value();
        h_.l1_offset = raw.l1_table_offset.value();
        h_.reftable_offset = raw.refcount_table_offset.value();
        h_.reftable_clusters = raw.refcount_table_clusters.value();
        h_.nb_snapshots = raw.nb_snapshots.value();
        h_.snapshots_offset = raw.snapshots_offset.value();
        if (h_.version == 3)
            read_version_3(raw);
    }

    void read_version_3(const RawHeader &raw)
    {
        h_.incompatible = raw.incompatible_features.value();
        h_.compatible = raw.compatible_features.value();
        h_.autoclear = raw.autoclear_features.value();
        h_.refcount_order = raw.refcount_order.value();
        h_.header_length = raw.header_length.value();
        if (h_.header_length > compression_type_at)
            h_.compression_type = static_cast<std::uint8_t>(h_.sector[compression_type_at]);
    }

    void check_basics() const
    {
        if (h_.cluster_bits < min_cluster_bits || h_.cluster_bits > max_cluster_bits)
            refuse("cluster_bits {} is not between {} and {}", h_.cluster_bits, min_cluster_bits, max_cluster_bits);
        if (h_.refcount_order > 6)
            refuse("refcount_order {} is more than 6", h_.refcount_order);
        if (h_.version == 3 && (h_.header_length < v3_header_length || h_.header_length > h_.cluster_size()))
            refuse("header_length {} is out of range", h_.header_length);
        if (h_.compression_type && !(h_.incompatible & incompat_compression))
            refuse("compression type {} without its feature bit", h_.compression_type);
        if (h_.extended_l2() && h_.cluster_bits < 14)
            refuse("extended L2 entries need clusters of at least 16 KiB");
        if (h_.size > (1ULL << 62))
            refuse("the virtual size {} is too large", h_.size);
        if (h_.nb_snapshots > max_snapshots)
            refuse("{} snapshots are more than {}", h_.nb_snapshots, max_snapshots);
        if (h_.nb_snapshots)
            check_offset("snapshot table", h_.snapshots_offset, 0);
    }

    void check_offset(const char *what, std::uint64_t offset, std::uint64_t bytes) const
    {
        if (!h_.aligned(offset) || offset < h_.cluster_size() || offset > offset_mask - bytes)
            refuse("the {} has the bad offset {:#x}", what, offset);
    }

    void check_active_tables() const
    {
        const std::uint64_t l1_bytes = 8ULL * h_.l1_size;
        if (l1_bytes > max_l1_bytes)
            refuse("the L1 table of {} entries is too large", h_.l1_size);
        if (h_.l1_size < h_.l1_entries_for(h_.size))
            refuse("the L1 table of {} entries is too small for a virtual size of {}", h_.l1_size, h_.size);
        if (h_.l1_size)
            check_offset("L1 table", h_.l1_offset, l1_bytes);
        const std::uint64_t reftable_bytes = std::uint64_t{h_.reftable_clusters} << h_.cluster_bits;
        if (!h_.reftable_clusters || reftable_bytes > max_reftable_bytes)
            refuse("the refcount table of {} clusters is out of range", h_.reftable_clusters);
        check_offset("refcount table", h_.reftable_offset, reftable_bytes);
    }

    std::uint64_t backing_offset() const { return load<RawHeader>(h_.sector, 0).backing_file_offset.value(); }

    void read_extensions()
    {
        std::vector<std::byte> area(h_.cluster_size());
        file_.read(area, 0);
        std::uint64_t end = backing_offset() ? backing_offset() : area.size();
        if (end > area.size() || end < h_.header_length)
            refuse("the backing file name at {:#x} is outside of the first cluster", end);
        std::uint64_t at = h_.header_length;
        while (end >= at && end - at >= 8) {
            Extension e;
            e.type = load<Be32>(area, at).value();
            const std::uint32_t length = load<Be32>(area, at + 4).value();
            at += 8;
            if (e.type == extension_end)
                return;
            if (length > end - at)
                refuse("header extension {:#010x} of {} bytes does not fit", e.type, length);
            const auto data = std::span(area).subspan(at, length);
            e.data.assign(data.begin(), data.end());
            h_.extensions.push_back(std::move(e));
            at += (length + 7ULL) / 8 * 8;
        }
    }

    void read_backing_file()
    {
        const std::uint64_t offset = backing_offset();
        if (!offset)
            return;
        const std::uint32_t length = load<RawHeader>(h_.sector, 0).backing_file_size.value();
        if (length > max_backing_file_size || length > h_.cluster_size() - offset)
            refuse("the backing file name of {} bytes is too long", length);
        h_.backing_file.resize(length);
        file_.read(std::as_writable_bytes(std::span(h_.backing_file)), offset);
    }

    const ImageFile &file_;
    Header h_;
};

struct NamedFeature {
    FeatureKind kind;
    unsigned bit;
    const char *name;
};
constexpr std::array<NamedFeature, 8> specified = {{
    {FeatureKind::incompatible, 0, "dirty bit"},
    {FeatureKind::incompatible, 1, "corrupt bit"},
    {FeatureKind::incompatible, 2, "external data file"},
    {FeatureKind::incompatible, 3, "compression type"},
    {FeatureKind::incompatible, 4, "extended L2 entries"},
    {FeatureKind::compatible, 0, "lazy refcounts"},
    {FeatureKind::autoclear, 0, "bitmaps"},
    {FeatureKind::autoclear, 1, "raw external data"},
}};

struct RawFeatureName {
    std::uint8_t kind;
    std::uint8_t bit;
    std::array<char, 46> name;
};
static_assert(sizeof(RawFeatureName) == 48);

} // namespace

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
    if (const Extension *e = find(extension_feature_names)) {
        for (std::size_t at = 0; e->data.size() - at >= sizeof(RawFeatureName); at += sizeof(RawFeatureName)) {
            const auto raw = load<RawFeatureName>(e->data, at);
            if (raw.kind == static_cast<std::uint8_t>(kind) && raw.bit == bit && raw.name[0])
                return printable({raw.name.data(), ::strnlen(raw.name.data(), raw.name.size())});
        }
    }
    for (const NamedFeature &f : specified)
        if (f.kind == kind && f.bit == bit)
            return f.name;
    return "unknown";
}

Header read_header(const ImageFile &file)
{
    return Parser(file).parse();
}

std::array<std::byte, sector_size> serialise(const Header &header)
{
    auto sector = header.sector;
    auto raw = load<RawHeader>(sector, 0);
    raw.size = header.size;
    raw.l1_size = header.l1_size;
    raw.l1_table_offset = header.l1_offset;
    raw.refcount_table_offset = header.reftable_offset;
    raw.refcount_table_clusters = header.reftable_clusters;
    raw.nb_snapshots = header.nb_snapshots;
    raw.snapshots_offset = header.snapshots_offset;
    if (header.version >= 3) {
        raw.incompatible_features = header.incompatible;
        raw.autoclear_features = header.autoclear;
    }
    // In version 2 what follows the fixed fields belongs to extensions and is as it was read.
    store(std::span<std::byte>(sector), 0, raw);
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
