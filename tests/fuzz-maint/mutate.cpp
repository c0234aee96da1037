// SPDX-License-Identifier: GPL-2.0-only
#include "mutate.hpp"

#include "random.hpp"

#include <algorithm>
#include <array>

namespace liveblk::fuzz {
namespace {

// A big-endian field of any width.
class Field {
public:
    Field(std::vector<std::uint8_t> &bytes, std::uint64_t at, unsigned length) : bytes_(bytes), at_(at), length_(length)
    {
    }
    std::uint64_t get() const
    {
        std::uint64_t value = 0;
        for (unsigned i = 0; i < length_; i++)
            value = value << 8 | bytes_[at_ + i];
        return value;
    }
    void set(std::uint64_t value)
    {
        for (unsigned i = length_; i-- > 0; value >>= 8)
            bytes_[at_ + i] = static_cast<std::uint8_t>(value);
    }

private:
    std::vector<std::uint8_t> &bytes_;
    std::uint64_t at_;
    unsigned length_;
};

std::uint64_t cluster_size(std::vector<std::uint8_t> &image)
{
    const std::uint64_t bits = Field(image, 20, 4).get();
    return 1ULL << (bits >= 9 && bits <= 21 ? bits : 12);
}

// At the edges of what a check would look at.
std::uint64_t edge_value(test::Random &random, std::uint64_t old, std::uint64_t cluster, std::uint64_t size)
{
    const std::uint64_t end = size / cluster * cluster;
    const std::uint64_t some_cluster = random.below(size / cluster + 1) * cluster;
    const std::uint64_t some_bit = 1ULL << random.below(64);
    const std::array values = {std::uint64_t{0},
                               ~std::uint64_t{0},
                               random.next(),
                               random.below(70000),
                               some_bit,
                               old ^ some_bit,
                               old + 1,
                               old - 1,
                               old + cluster,
                               old - cluster,
                               end,
                               end - cluster,
                               end + cluster,
                               some_cluster,
                               some_cluster | random.below(4) << 62};
    return values[random.below(values.size())];
}

// The header, or the first entries of a cluster, wherever tables may be.
void change_field(std::vector<std::uint8_t> &image, test::Random &random)
{
    static constexpr std::array<unsigned, 4> widths = {8, 8, 4, 2};
    const std::uint64_t cluster = cluster_size(image);
    const unsigned width = widths[random.below(widths.size())];
    const bool header = random.percent(30);
    const std::uint64_t base = header ? 0 : random.below(std::min<std::uint64_t>(16, image.size() / cluster)) * cluster;
    const std::uint64_t at = base + random.below((header ? 160 : 256) / width) * width;
    if (at + width > image.size())
        return;
    Field field(image, at, width);
    field.set(edge_value(random, field.get(), cluster, image.size()));
}

void change_size(std::vector<std::uint8_t> &image, test::Random &random)
{
    const std::uint64_t cluster = cluster_size(image);
    if (random.percent(50))
        image.resize(image.size() - random.below(std::min<std::uint64_t>(image.size(), 2 * cluster)));
    else
        image.resize(image.size() + random.below(2 * std::min<std::uint64_t>(cluster, 65536)));
}

// One cluster becomes like another: tables in the place of tables.
void copy_cluster(std::vector<std::uint8_t> &image, test::Random &random)
{
    const std::uint64_t cluster = cluster_size(image);
    const std::uint64_t clusters = std::min<std::uint64_t>(image.size() / cluster, 24);
    const auto from = image.begin() + static_cast<std::ptrdiff_t>(random.below(clusters) * cluster);
    const auto to = image.begin() + static_cast<std::ptrdiff_t>(random.below(clusters) * cluster);
    if (clusters && from != to)
        std::copy(from, from + static_cast<std::ptrdiff_t>(cluster), to);
}

} // namespace

void mutate(std::vector<std::uint8_t> &image, std::uint64_t seed)
{
    test::Random random(seed);
    for (std::uint64_t n = random.between(1, 5); n-- > 0;) {
        if (image.size() < 104)
            image.resize(104);
        const std::uint64_t kind = random.below(40);
        if (kind == 0)
            change_size(image, random);
        else if (kind == 1)
            copy_cluster(image, random);
        else
            change_field(image, random);
    }
}

} // namespace liveblk::fuzz
