// SPDX-License-Identifier: GPL-2.0-only
// A small valid image in memory, and what a reader of it must see. Cases start from one and
// change bytes and expectations together.
#pragma once

#include "oracle/format.hpp"
#include "support.hpp"

namespace hostile {

namespace format = liveblk::oracle::format;

struct Geometry {
    unsigned version = 3;
    unsigned cluster_bits = 12;
    unsigned refcount_order = 4;
    bool snapshot = false;
    // On a block device the image ends before the device does.
    bool block_device = false;
    bool extended = false; // L2 entries, in clusters of 16 KiB or more

    std::uint64_t cluster() const { return 1ULL << cluster_bits; }
    std::uint64_t l2_entry_size() const { return extended ? format::extended_entry_size : format::entry_size; }
};

// The bytes of a guest of this geometry.
std::uint64_t guest_size(const Geometry &geometry);

// What a read of a sector of the device must give.
enum class Want : std::uint8_t {
    exact, // these bytes
    fails, // an I/O error, and a write fails too
    any,   // an error or any bytes
};

// The guest's view: a byte of content for each byte, an expectation for each sector.
struct View {
    Bytes bytes;
    std::vector<Want> want;

    void set(std::uint64_t sector, std::uint64_t count, Want w);
    std::uint64_t sectors() const { return want.size(); }
};

class Image {
public:
    // Guest clusters of each kind, within each L2 table.
    static constexpr std::uint64_t data_cluster = 1;
    static constexpr std::uint64_t hole_cluster = 2;
    static constexpr std::uint64_t zero_cluster = 3;
    static constexpr std::uint64_t prealloc_zero_cluster = 4;
    static constexpr std::uint64_t other_data_cluster = 5;
    // With extended entries every sixth cluster from this one on has all three kinds of subclusters.
    static constexpr std::uint64_t mixed_cluster = 6;
    static constexpr std::uint64_t mixed_bits = 0x00ff000f00000ff0ULL;

    explicit Image(const Geometry &geometry);

    const Geometry &geometry() const { return geo_; }
    std::uint64_t cluster() const { return geo_.cluster(); }
    std::uint64_t l2_entries() const { return cluster() / geo_.l2_entry_size(); }

    // Places of the metadata, bytes from the start of the file.
    std::uint64_t reftable() const { return 1 * cluster(); }
    std::uint64_t refblock() const { return 2 * cluster(); }
    std::uint64_t l1() const { return 3 * cluster(); }
    std::uint64_t snapshot_table() const { return 4 * cluster(); }
    std::uint64_t snapshot_l1() const { return 5 * cluster(); }
    std::uint64_t l2(std::uint64_t index = 0) const { return (6 + index) * cluster(); }
    std::uint64_t l1_entry(std::uint64_t index) const { return l1() + index * format::entry_size; }
    std::uint64_t l2_entry(std::uint64_t guest_cluster) const;
    std::uint64_t l2_tables() const;
    std::uint64_t guest_clusters() const { return view.bytes.size() / cluster(); }
    std::uint64_t size() const { return view.bytes.size(); }
    // The host offset of the data of a guest cluster that has some.
    std::uint64_t data(std::uint64_t guest_cluster) const;
    // Where the metadata and data that the writer laid down end.
    std::uint64_t used_end() const { return used_end_; }
    std::uint64_t end() const { return bytes.size(); }
    // A cluster of the file that nothing refers to; its content is noise.
    std::uint64_t free_cluster() const { return free_cluster_; }

    template <typename T>
    T get(std::uint64_t at) const
    {
        return format::get<T>(bytes, at);
    }
    void put8(std::uint64_t at, std::uint64_t value) { format::put<std::uint8_t>(bytes, at, value); }
    void put16(std::uint64_t at, std::uint64_t value) { format::put<std::uint16_t>(bytes, at, value); }
    void put32(std::uint64_t at, std::uint64_t value) { format::put<std::uint32_t>(bytes, at, value); }
    void put64(std::uint64_t at, std::uint64_t value) { format::put<std::uint64_t>(bytes, at, value); }
    void set_refcount(std::uint64_t host_offset, std::uint64_t value);
    std::uint64_t refcount(std::uint64_t host_offset) const;

    // Appends a header extension in front of the end mark; returns where its data begins.
    std::uint64_t add_extension(std::uint32_t type, const Bytes &data);
    // Extensions that are added from now on follow a header of this length.
    void set_header_length(std::uint32_t length);
    std::uint64_t extension_end() const { return extension_end_; }
    void truncate(std::uint64_t length);

    // Expectations.
    void want_cluster(std::uint64_t guest_cluster, Want want);
    void want_l2(std::uint64_t index, Want want);
    void want_all(Want want);
    void want_zero(std::uint64_t guest_cluster);
    // This guest cluster now shows what lies at that place of the file.
    void want_bytes_of(std::uint64_t guest_cluster, std::uint64_t host_offset);

    Bytes bytes;
    View view;

private:
    void write_header();
    void write_tables();
    void write_snapshot();
    void write_guest();
    void write_extended(std::uint64_t guest_cluster, std::uint64_t bits);
    std::uint64_t allocate();

    Geometry geo_;
    std::uint64_t next_ = 0;
    std::uint64_t used_end_ = 0;
    std::uint64_t free_cluster_ = 0;
    std::uint64_t extension_end_ = 0;
};

} // namespace hostile
