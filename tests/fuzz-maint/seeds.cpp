// SPDX-License-Identifier: GPL-2.0-only
#include "seeds.hpp"

#include "cases.hpp"

#include <fmt/core.h>

namespace liveblk::fuzz {
namespace {

using hostile::Bytes;
using hostile::Geometry;
using hostile::Image;
namespace format = hostile::format;

constexpr std::uint64_t copied = 1ULL << 63;
constexpr std::uint64_t compressed = 1ULL << 62;

void put(Bytes &bytes, std::uint64_t at, std::uint64_t value, unsigned length)
{
    for (unsigned i = 0; i < length; i++)
        bytes[at + i] = static_cast<std::uint8_t>(value >> (8 * (length - 1 - i)));
}

// One more cluster of metadata at the end, which is counted.
std::uint64_t append_cluster(Image &image)
{
    const std::uint64_t at = (image.bytes.size() + image.cluster() - 1) / image.cluster() * image.cluster();
    image.bytes.resize(at + image.cluster());
    image.set_refcount(at, 1);
    return at;
}

void add_bitmap(Image &image)
{
    const std::uint64_t directory = append_cluster(image);
    const std::uint64_t table = append_cluster(image);
    const std::uint64_t data = append_cluster(image);
    image.put64(directory, table);
    image.put32(directory + 8, 1);
    image.put8(directory + 16, 1);
    image.put8(directory + 17, 16);
    image.put16(directory + 18, 4);
    for (unsigned i = 0; i < 4; i++)
        image.put8(directory + 24 + i, 'm');
    image.put64(table, data);
    Bytes extension(24);
    put(extension, 0, 1, 4);
    put(extension, 8, 32, 8);
    put(extension, 16, directory, 8);
    image.add_extension(format::ext_bitmaps, extension);
    image.put64(format::h_autoclear, format::autoclear_bitmaps);
}

void add_encryption_header(Image &image)
{
    const std::uint64_t at = append_cluster(image);
    Bytes extension(16);
    put(extension, 0, at, 8);
    put(extension, 8, image.cluster(), 8);
    image.add_extension(format::ext_crypto, extension);
    image.put32(format::h_crypt_method, 2);
}

void add_feature_names(Image &image)
{
    Bytes names(2 * 48);
    names[1] = 0;
    names[2] = 'd';
    names[48] = 1;
    names[50] = '\n';
    image.add_extension(format::ext_feature_names, names);
    image.put64(format::h_compatible, 3);
}

// Two that share a cluster of the host.
void compress_some(Image &image)
{
    const std::uint64_t at = append_cluster(image);
    image.put64(image.l2_entry(Image::hole_cluster), compressed | at);
    image.put64(image.l2_entry(Image::hole_cluster + 6), compressed | (at + 512));
    image.set_refcount(at, 2);
}

// All of the table is pairs of an entry and a bitmap.
void extend_entries(Image &image)
{
    for (std::uint64_t at = image.l2(); at < image.l2() + image.cluster(); at += 8)
        image.put64(at, 0);
    for (std::uint64_t i = 0; i < 4; i++) {
        image.put64(image.l2() + 16 * i, append_cluster(image) | copied);
        image.put64(image.l2() + 16 * i + 8, i ? 0x00ff00000000ff00 : 0xffffffff);
    }
    image.put64(format::h_incompatible, format::incompat_extended_l2);
}

void use_data_file(Image &image)
{
    image.add_extension(format::ext_data_file, Bytes{'d', 'a', 't', 'a'});
    image.put64(format::h_incompatible, format::incompat_data_file);
}

Seed seed(const std::string &name, const Geometry &geometry, void (*change)(Image &) = nullptr)
{
    Image image(geometry);
    if (change)
        change(image);
    return {name, image.bytes};
}

} // namespace

std::vector<Seed> make_seeds()
{
    std::vector<Seed> seeds;
    for (const unsigned bits : {9U, 10U, 12U, 16U})
        for (const unsigned order : {0U, 2U, 4U, 6U})
            for (const bool snapshot : {false, true})
                if (order || !snapshot) // a snapshot needs refcounts of 2
                    seeds.push_back(seed(fmt::format("sound-{}-{}-{}", bits, order, snapshot),
                                         {.cluster_bits = bits, .refcount_order = order, .snapshot = snapshot}));
    constexpr Geometry small{.cluster_bits = 10, .snapshot = true};
    seeds.push_back(seed("version-2", {.version = 2, .cluster_bits = 10, .snapshot = true}));
    seeds.push_back(seed("bitmap", small, add_bitmap));
    seeds.push_back(seed("encrypted", small, add_encryption_header));
    seeds.push_back(seed("feature-names", small, add_feature_names));
    seeds.push_back(seed("compressed", small, compress_some));
    seeds.push_back(seed("data-file", small, use_data_file));
    seeds.push_back(seed("extended-l2", {.cluster_bits = 14}, extend_entries));
    const hostile::Catalogue catalogue = hostile::make_catalogue(false);
    for (const hostile::Case &c : catalogue.cases()) {
        if (c.no_image)
            continue;
        Image image(c.geometry);
        c.make(image);
        seeds.push_back({"case-" + c.name, image.bytes});
    }
    return seeds;
}

} // namespace liveblk::fuzz
