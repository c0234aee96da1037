// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/create.hpp"

#include "base/error.hpp"
#include "qcow2/big_endian.hpp"
#include "qcow2/header.hpp"
#include "qcow2/refcount_block.hpp"
#include "qcow2/writer.hpp"

#include <algorithm>
#include <filesystem>
#include <span>
#include <vector>

namespace liveblk::qcow2 {
namespace {

constexpr unsigned refcount_order = 4;
constexpr std::uint64_t entry_bytes = 8;

std::uint64_t in_pieces(std::uint64_t count, std::uint64_t piece)
{
    return (count + piece - 1) / piece;
}

std::uint64_t rounded_up(std::uint64_t bytes)
{
    return in_pieces(bytes, 8) * 8;
}

// In clusters: the header, the refcount table, its blocks, the L1 table, one behind the other.
struct Layout {
    std::uint64_t table = 1;
    std::uint64_t blocks = 1;
    std::uint64_t l1 = 0;

    std::uint64_t table_at() const { return 1; }
    std::uint64_t blocks_at() const { return table_at() + table; }
    std::uint64_t l1_at() const { return blocks_at() + blocks; }
    std::uint64_t end() const { return l1_at() + l1; }
};

// Blocks count themselves and the table that names them.
Layout lay_out(const Header &h)
{
    Layout layout;
    layout.l1 = h.clusters_of(h.l1_size * entry_bytes);
    for (;;) {
        const std::uint64_t blocks = in_pieces(layout.end(), h.cluster_size() * 8 >> refcount_order);
        const std::uint64_t table = in_pieces(blocks, h.cluster_size() / entry_bytes);
        if (blocks == layout.blocks && table == layout.table)
            return layout;
        layout.blocks = blocks;
        layout.table = table;
    }
}

class Creator {
public:
    Creator(ImageFile &file, const NewImage &image) : file_(file), image_(image)
    {
        check();
        h_.version = 3;
        h_.cluster_bits = image_.cluster_bits;
        h_.refcount_order = refcount_order;
        h_.header_length = sizeof(qcow2_header);
        h_.size = image_.size;
        const std::uint64_t entries = h_.l1_entries_for(h_.size);
        if (entries * entry_bytes > max_l1_bytes)
            refuse("with clusters of {} bytes, {} bytes are more than an image can have", h_.cluster_size(), h_.size);
        h_.l1_size = static_cast<std::uint32_t>(entries);
        layout_ = lay_out(h_);
        h_.reftable_offset = layout_.table_at() << h_.cluster_bits;
        h_.reftable_clusters = static_cast<std::uint32_t>(layout_.table);
        h_.l1_offset = layout_.l1_at() << h_.cluster_bits;
        make_area();
    }

    void write()
    {
        write_table();
        write_blocks();
        write_zeros(layout_.l1_at(), layout_.l1);
        writer_.flush();
        file_.write(area_, 0);
    }

private:
    template <typename... Args>
    [[noreturn]] void refuse(fmt::format_string<Args...> text, Args &&...args) const
    {
        fail("make the image '{}': {}", file_.path(), fmt::format(text, std::forward<Args>(args)...));
    }

    void check() const
    {
        if (image_.cluster_bits < min_cluster_bits || image_.cluster_bits > max_cluster_bits)
            refuse("clusters of 2^{} bytes are not between {} and {} bytes", image_.cluster_bits,
                   1U << min_cluster_bits, 1U << max_cluster_bits);
        if (!image_.size || image_.size % sector_size)
            refuse("its size of {} bytes is not a positive multiple of {}", image_.size, sector_size);
        if (image_.size > max_size)
            refuse("{} bytes are more than an image can have", image_.size);
        if (image_.backing_file.size() > QCOW2_MAX_BACKING_NAME)
            refuse("the name of its backing file has {} bytes, and {} are the most", image_.backing_file.size(),
                   QCOW2_MAX_BACKING_NAME);
        if (image_.backing_file.find('\0') != std::string::npos)
            refuse("the name of its backing file has a zero byte");
    }

    // The first cluster: the header, the extension with the format, the end of the extensions, the name.
    void make_area()
    {
        const std::string &name = image_.backing_file;
        const std::string &format = image_.backing_format;
        const std::uint64_t extension = h_.header_length;
        const std::uint64_t end = extension + (format.empty() ? 0 : QCOW2_EXTENSION_HEAD + rounded_up(format.size()));
        const std::uint64_t name_at = end + QCOW2_EXTENSION_HEAD;
        area_.resize(h_.cluster_size());
        if (name_at + name.size() > area_.size())
            refuse("the name of its backing file, '{}', has no room in a cluster of {} bytes", printable(name),
                   area_.size());
        qcow2_geometry g = h_.geometry();
        if (!name.empty()) {
            g.backing_offset = name_at;
            g.backing_size = static_cast<std::uint32_t>(name.size());
            put(name, name_at);
        }
        qcow2_header_make(area_.data(), &g);
        if (format.empty())
            return;
        qcow2_extension_store(&area_[extension], extension_backing_format, static_cast<std::uint32_t>(format.size()));
        put(format, extension + QCOW2_EXTENSION_HEAD);
    }

    void put(const std::string &text, std::uint64_t offset)
    {
        const auto bytes = std::as_bytes(std::span(text));
        std::copy(bytes.begin(), bytes.end(), area_.begin() + static_cast<std::ptrdiff_t>(offset));
    }

    void write_table()
    {
        std::vector<std::uint64_t> table((layout_.table << h_.cluster_bits) / entry_bytes);
        for (std::uint64_t i = 0; i < layout_.blocks; i++)
            table[i] = big_endian((layout_.blocks_at() + i) << h_.cluster_bits);
        writer_.write(std::as_bytes(std::span(table)), layout_.table_at() << h_.cluster_bits);
    }

    void write_blocks()
    {
        const std::uint64_t each = h_.cluster_size() * 8 >> refcount_order;
        std::vector<std::byte> block(h_.cluster_size());
        for (std::uint64_t i = 0; i < layout_.blocks; i++) {
            for (std::uint64_t entry = 0; entry < each; entry++)
                refcount_set(block, entry, refcount_order, i * each + entry < layout_.end());
            writer_.write(block, (layout_.blocks_at() + i) << h_.cluster_bits);
        }
    }

    // Not left to be a hole: a disk that is full is found now, and not when the guest writes.
    void write_zeros(std::uint64_t cluster, std::uint64_t count)
    {
        const std::vector<std::byte> zeros(h_.cluster_size());
        for (std::uint64_t i = 0; i < count; i++)
            writer_.write(zeros, (cluster + i) << h_.cluster_bits);
    }

    ImageFile &file_;
    const NewImage &image_;
    Header h_;
    Layout layout_;
    std::vector<std::byte> area_;
    Writer writer_{file_};
};

} // namespace

void create_image(ImageFile &file, const NewImage &image)
{
    Creator(file, image).write();
}

std::string name_below(const std::string &image, const std::string &below)
{
    const std::filesystem::path path = below;
    if (path.parent_path() != std::filesystem::path(image).parent_path())
        return below;
    const std::string name = path.filename();
    // What is before a colon would be taken for a protocol.
    return name.find(':') == std::string::npos ? name : "./" + name;
}

} // namespace liveblk::qcow2
