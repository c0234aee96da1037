// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/header_area.hpp"

#include "base/error.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

namespace liveblk::qcow2 {
namespace {

constexpr std::uint64_t head_bytes = QCOW2_EXTENSION_HEAD;
constexpr std::uint64_t end_bytes = QCOW2_EXTENSION_HEAD;

class HeaderArea {
public:
    explicit HeaderArea(Image &image) : image_(image) { read(); }

    void set(const qcow2_bitmaps &directory);
    void drop();

private:
    void read();
    void put(std::span<const std::byte> bytes, std::uint64_t offset);
    void put_header(std::uint64_t autoclear);
    void append();
    void make_room();
    bool has_bit() const { return image_.header().autoclear & autoclear_bitmaps; }

    Image &image_;
    std::vector<std::byte> area_;
    std::optional<std::uint64_t> data_; // of the bitmaps extension
    std::uint64_t list_end_ = 0;        // where an extension can be appended
    std::uint64_t area_end_ = 0;        // the backing file name, or the end of the cluster
    std::uint64_t name_ = 0;            // where that is, or 0
};

void HeaderArea::read()
{
    const Header &h = image_.header();
    area_.resize(h.cluster_size());
    image_.file().read(area_, 0);
    qcow2_geometry g;
    qcow2_header_inspect(area_.data(), area_.size(), &g);
    data_.reset();
    list_end_ = g.header_length;
    name_ = g.backing_offset;
    area_end_ = name_ ? name_ : area_.size();
    qcow2_extension next = {};
    while (qcow2_extension_next(area_.data(), area_.size(), &g, &next) > 0) {
        list_end_ = next.next;
        if (next.type == extension_bitmaps && next.length >= QCOW2_BITMAPS_BYTES)
            data_ = next.offset;
    }
}

// In whole sectors. Durable, and so is all before.
void HeaderArea::put(std::span<const std::byte> bytes, std::uint64_t offset)
{
    std::copy(bytes.begin(), bytes.end(), area_.begin() + static_cast<std::ptrdiff_t>(offset));
    const std::uint64_t from = offset / sector_size * sector_size;
    const std::uint64_t end = (offset + bytes.size() + sector_size - 1) / sector_size * sector_size;
    image_.file().barrier();
    image_.file().write(std::span(area_).subspan(from, end - from), from);
    image_.file().barrier();
}

void HeaderArea::put_header(std::uint64_t autoclear)
{
    Header h = image_.header();
    h.autoclear = autoclear;
    put(serialise(h), 0);
    image_.reload();
}

// Moves the name of the backing file to the end of the cluster: behind the extensions there is no room without that.
void HeaderArea::make_room()
{
    const std::string &name = image_.header().backing_file;
    const std::uint64_t need = list_end_ + head_bytes + QCOW2_BITMAPS_BYTES + end_bytes;
    const std::uint64_t to = name.size() < area_.size() ? (area_.size() - name.size()) / 8 * 8 : 0;
    if (!name_ || to < need || to < name_ + name.size())
        fail("add a bitmap to '{}': its header has no room for another extension", image_.path());
    put(std::as_bytes(std::span(name)), to);
    auto sector = image_.header().sector;
    qcow2_header_store_backing(sector.data(), to);
    put(sector, 0);
    image_.reload();
    read();
}

// What ends the list becomes the extension, when what comes behind that is there.
void HeaderArea::append()
{
    if (list_end_ + head_bytes + QCOW2_BITMAPS_BYTES + end_bytes > area_end_)
        make_room();
    std::array<std::byte, QCOW2_BITMAPS_BYTES + end_bytes> rest = {};
    put(rest, list_end_ + head_bytes);
    std::array<std::byte, head_bytes> head;
    qcow2_extension_store(head.data(), extension_bitmaps, QCOW2_BITMAPS_BYTES);
    put(head, list_end_);
    image_.reload();
    read();
}

void HeaderArea::set(const qcow2_bitmaps &directory)
{
    std::array<std::byte, QCOW2_BITMAPS_BYTES> bytes;
    qcow2_bitmaps_store(bytes.data(), &directory);
    if (!data_) {
        // One that does not count is no harm; one that counted would have no directory.
        if (has_bit())
            put_header(image_.header().autoclear & ~autoclear_bitmaps);
        append();
    }
    const bool one_sector = *data_ / sector_size == (*data_ + bytes.size() - 1) / sector_size;
    // In two sectors it might be half of it that is found after a crash: then it must not count.
    if (!one_sector && has_bit())
        put_header(image_.header().autoclear & ~autoclear_bitmaps);
    put(bytes, *data_);
    image_.reload();
    if (!has_bit())
        put_header(image_.header().autoclear | autoclear_bitmaps);
}

// Without the bit it does not count. At the end of the list it is taken away, too; QEMU would warn of it.
void HeaderArea::drop()
{
    if (has_bit())
        put_header(image_.header().autoclear & ~autoclear_bitmaps);
    if (!data_ || *data_ + QCOW2_BITMAPS_BYTES != list_end_)
        return;
    const std::array<std::byte, end_bytes> end = {};
    put(end, *data_ - head_bytes);
    image_.reload();
}

} // namespace

void set_bitmap_extension(Image &image, const qcow2_bitmaps &directory)
{
    HeaderArea(image).set(directory);
}

void drop_bitmap_extension(Image &image)
{
    HeaderArea(image).drop();
}

} // namespace liveblk::qcow2
