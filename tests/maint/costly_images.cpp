// SPDX-License-Identifier: GPL-2.0-only
// costly-images DIRECTORY: small files that claim as much work as the format has words for. A reader has to be done
// with each in seconds and in little memory.
#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "raw_format.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace liveblk;
using namespace liveblk::qcow2;

constexpr std::uint64_t gib = 1ULL << 30;
constexpr std::uint64_t tib = 1ULL << 40;

// A sparse file that is written to here and there.
class SparseImage {
public:
    SparseImage(const std::string &path, unsigned cluster_bits)
        : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)), cluster_bits_(cluster_bits)
    {
        if (!fd_)
            fail_errno("make '" + path + "'");
        header.magic = magic;
        header.version = 3;
        header.cluster_bits = cluster_bits;
        header.size = cluster();
        header.refcount_order = 4;
        header.header_length = v3_header_length;
    }

    std::uint64_t cluster() const { return 1ULL << cluster_bits_; }
    // The place after the last one, on a cluster's boundary.
    std::uint64_t reserve(std::uint64_t bytes)
    {
        const std::uint64_t at = end_;
        end_ += (bytes + cluster() - 1) / cluster() * cluster();
        return at;
    }
    void write(std::span<const std::byte> bytes, std::uint64_t at)
    {
        if (::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(at)) !=
            static_cast<ssize_t>(bytes.size()))
            fail_errno("write an image");
    }
    template <typename T>
    void put(std::uint64_t at, const T &value)
    {
        write(std::as_bytes(std::span(&value, 1)), at);
    }
    void fill(std::uint64_t at, std::uint64_t entries, std::uint64_t entry)
    {
        const std::vector<Be64> table(entries, Be64(entry));
        write(std::as_bytes(std::span(table)), at);
    }
    // A refcount table with one block, and an L1 table, unless they are there.
    void finish(std::uint64_t size = 0)
    {
        if (!header.refcount_table_clusters.value()) {
            header.refcount_table_offset = reserve(cluster());
            header.refcount_table_clusters = 1;
            put(header.refcount_table_offset.value(), Be64(reserve(cluster())));
        }
        if (!header.l1_size.value()) {
            header.l1_size = 1;
            header.l1_table_offset = reserve(cluster());
        }
        put(0, header);
        if (::ftruncate(fd_.get(), static_cast<off_t>(size ? size : end_)) < 0)
            fail_errno("set the size of an image");
    }

    RawHeader header;

private:
    UniqueFd fd_;
    unsigned cluster_bits_;
    std::uint64_t end_ = cluster();
};

void one_refcount_block(const std::string &path)
{
    SparseImage image(path, 16);
    image.header.refcount_order = 6;
    image.header.refcount_table_clusters = max_reftable_bytes / image.cluster();
    image.header.refcount_table_offset = image.reserve(max_reftable_bytes);
    const std::uint64_t block = image.reserve(image.cluster());
    image.fill(image.header.refcount_table_offset.value(), max_reftable_bytes / 8, block);
    image.fill(block, image.cluster() / 8, 1);
    image.finish(15 * tib);
}

void one_l2_table(const std::string &path)
{
    SparseImage image(path, 21);
    image.header.l1_size = max_l1_bytes / 8;
    image.header.l1_table_offset = image.reserve(max_l1_bytes);
    const std::uint64_t table = image.reserve(image.cluster());
    image.fill(image.header.l1_table_offset.value(), max_l1_bytes / 8, table | flag_copied);
    image.fill(table, image.cluster() / 8, table | flag_copied);
    image.finish();
}

// Snapshots whose L1 tables are step bytes apart.
void many_snapshots(const std::string &path, unsigned cluster_bits, std::uint64_t l1_bytes, std::uint64_t step)
{
    SparseImage image(path, cluster_bits);
    image.header.nb_snapshots = max_snapshots;
    image.header.snapshots_offset = image.reserve(max_snapshots * sizeof(RawSnapshot));
    std::vector<RawSnapshot> snapshots(max_snapshots);
    std::uint64_t at = image.reserve(0);
    for (RawSnapshot &s : snapshots) {
        s.l1_table_offset = at;
        s.l1_size = static_cast<std::uint32_t>(l1_bytes / 8);
        at += step;
    }
    image.write(std::as_bytes(std::span(snapshots)), image.header.snapshots_offset.value());
    image.reserve(at + l1_bytes);
    image.finish();
}

void long_names(const std::string &path)
{
    constexpr std::uint64_t entry = sizeof(RawSnapshot) + 65528;
    SparseImage image(path, 16);
    image.header.nb_snapshots = 1000;
    image.header.snapshots_offset = image.reserve(1000 * entry);
    for (std::uint64_t i = 0; i < 1000; i++) {
        RawSnapshot s;
        s.name_size = 65528;
        image.put(image.header.snapshots_offset.value() + i * entry, s);
    }
    image.finish();
}

void many_bitmaps(const std::string &path)
{
    constexpr std::uint32_t entries = 1 << 18;
    SparseImage image(path, 16);
    RawBitmapsExtension extension;
    extension.nb_bitmaps = max_bitmaps;
    extension.bitmap_directory_size = max_bitmaps * sizeof(RawBitmap);
    extension.bitmap_directory_offset = image.reserve(max_bitmaps * sizeof(RawBitmap));
    std::vector<RawBitmap> directory(max_bitmaps);
    for (RawBitmap &b : directory) {
        b.bitmap_table_size = entries / 32;
        b.bitmap_table_offset = image.reserve(entries / 4);
    }
    image.write(std::as_bytes(std::span(directory)), extension.bitmap_directory_offset.value());
    image.put(v3_header_length, Be32(extension_bitmaps));
    image.put(v3_header_length + 4, Be32(sizeof(extension)));
    image.put(v3_header_length + 8, extension);
    image.header.autoclear_features = autoclear_bitmaps;
    image.finish();
}

// Each entry in another stretch of the file, which has to be counted somewhere.
void scattered_clusters(const std::string &path)
{
    SparseImage image(path, 16);
    image.header.l1_size = 64;
    image.header.l1_table_offset = image.reserve(image.cluster());
    for (std::uint64_t t = 0; t < 64; t++) {
        const std::uint64_t table = image.reserve(image.cluster());
        image.put(image.header.l1_table_offset.value() + 8 * t, Be64(table | flag_copied));
        std::vector<Be64> entries(image.cluster() / 8);
        for (std::uint64_t i = 0; i < entries.size(); i++)
            entries[i] = gib + ((i * 64 + t) * 31 << 20) % (15 * tib);
        image.write(std::as_bytes(std::span(entries)), table);
    }
    image.finish(15 * tib + 2 * gib);
}

void make_all(const std::string &directory)
{
    one_refcount_block(directory + "/one-refcount-block");
    one_l2_table(directory + "/one-l2-table");
    many_snapshots(directory + "/empty-l1-tables", 21, max_l1_bytes, max_l1_bytes);
    many_snapshots(directory + "/same-l1-table", 9, max_l1_bytes, 0);
    many_snapshots(directory + "/overlapping-l1-tables", 9, max_l1_bytes, 512);
    long_names(directory + "/long-names");
    many_bitmaps(directory + "/many-bitmaps");
    scattered_clusters(directory + "/scattered-clusters");
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2) {
        std::fprintf(stderr, "usage: costly-images DIRECTORY\n");
        return EXIT_FAILURE;
    }
    try {
        make_all(argv[1]);
        return EXIT_SUCCESS;
    } catch (const std::exception &e) {
        std::fprintf(stderr, "costly-images: %s\n", e.what());
        return EXIT_FAILURE;
    }
}
