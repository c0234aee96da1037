// SPDX-License-Identifier: GPL-2.0-only
// Refcounts of every width, against a model that knows single bits only.
#include <catch2/catch.hpp>

#include "format.hpp"
#include "random.hpp"
#include "seed.hpp"

#include <cstring>
#include <memory>
#include <vector>

namespace {

using liveblk::test::Random;
using liveblk::unit::seed;

constexpr std::size_t block_size = QCOW2_BLOCK_SIZE;

// Where the specification puts bit @n (0 is the lowest) of entry @index of width 2^@order.
struct BitPlace {
    std::size_t byte;
    unsigned bit;
};

BitPlace place(std::size_t index, unsigned order, unsigned n)
{
    const std::size_t width = std::size_t{1} << order;
    if (width < 8)
        return {index * width / 8, static_cast<unsigned>(index * width % 8 + n)};
    // Big-endian: the lowest byte is the last one.
    return {(index + 1) * (width / 8) - 1 - n / 8, n % 8};
}

class BitModel {
public:
    BitModel(unsigned order, Random &random) : order_(order), bytes_(block_size)
    {
        for (auto &byte : bytes_)
            byte = static_cast<std::uint8_t>(random.next());
    }

    std::uint64_t get(std::size_t index) const
    {
        std::uint64_t value = 0;
        for (unsigned n = 0; n < width(); n++) {
            const BitPlace p = place(index, order_, n);
            value |= std::uint64_t{bytes_.at(p.byte) >> p.bit & 1U} << n;
        }
        return value;
    }

    void set(std::size_t index, std::uint64_t value)
    {
        for (unsigned n = 0; n < width(); n++) {
            const BitPlace p = place(index, order_, n);
            const auto mask = static_cast<std::uint8_t>(1U << p.bit);
            bytes_.at(p.byte) = static_cast<std::uint8_t>((bytes_.at(p.byte) & ~mask) | ((value >> n & 1) ? mask : 0));
        }
    }

    unsigned width() const { return 1U << order_; }
    std::size_t entries() const { return block_size * 8 / width(); }
    std::uint64_t largest() const { return width() == 64 ? ~0ULL : (1ULL << width()) - 1; }
    const std::vector<std::uint8_t> &bytes() const { return bytes_; }

private:
    unsigned order_;
    std::vector<std::uint8_t> bytes_;
};

// A block on the heap, so that a sanitizer sees an access outside of it.
class Block {
public:
    explicit Block(const BitModel &model) : data_(std::make_unique<std::uint8_t[]>(block_size))
    {
        std::memcpy(data_.get(), model.bytes().data(), block_size);
    }
    void *data() { return data_.get(); }
    bool same(const BitModel &model) const { return !std::memcmp(data_.get(), model.bytes().data(), block_size); }

private:
    std::unique_ptr<std::uint8_t[]> data_;
};

} // namespace

TEST_CASE("refcounts lie where the specification puts them", "[refcounts]")
{
    std::uint8_t block[16] = {};
    qcow2_refcount_set(block, 0, 0, 1);
    qcow2_refcount_set(block, 7, 0, 1);
    qcow2_refcount_set(block, 8, 0, 1);
    CHECK(block[0] == 0x81);
    CHECK(block[1] == 0x01);
    qcow2_refcount_set(block, 8, 1, 3);
    qcow2_refcount_set(block, 11, 1, 2);
    CHECK(block[2] == 0x83);
    qcow2_refcount_set(block, 6, 2, 0xa);
    qcow2_refcount_set(block, 7, 2, 0x5);
    CHECK(block[3] == 0x5a);
    qcow2_refcount_set(block, 4, 3, 0xfe);
    CHECK(block[4] == 0xfe);
    qcow2_refcount_set(block, 3, 4, 0x1234);
    CHECK(block[6] == 0x12);
    CHECK(block[7] == 0x34);
    qcow2_refcount_set(block, 2, 5, 0x12345678);
    CHECK(block[8] == 0x12);
    CHECK(block[11] == 0x78);
    qcow2_refcount_set(block, 1, 6, 0x0123456789abcdef);
    CHECK(block[8] == 0x01);
    CHECK(block[15] == 0xef);
}

TEST_CASE("every entry of a block is read and written alone", "[refcounts]")
{
    Random random(seed());
    for (unsigned order = 0; order <= 6; order++) {
        BitModel model(order, random);
        Block block(model);
        for (std::size_t i = 0; i < model.entries(); i++) {
            if (qcow2_refcount_get(block.data(), static_cast<unsigned>(i), order) != model.get(i)) {
                CAPTURE(order, i, model.get(i));
                FAIL("read another value");
            }
            for (const std::uint64_t value : {std::uint64_t{0}, model.largest(), std::uint64_t{1}}) {
                qcow2_refcount_set(block.data(), static_cast<unsigned>(i), order, value);
                model.set(i, value);
                // At the edges of the block and here and there: the whole comparison is slow.
                if ((i % 64 == 0 || i + 1 == model.entries()) && !block.same(model)) {
                    CAPTURE(order, i, value);
                    FAIL("wrote something else");
                }
            }
        }
        CAPTURE(order);
        CHECK(block.same(model));
    }
}

TEST_CASE("random reads and writes agree with the model", "[refcounts][random]")
{
    for (unsigned order = 0; order <= 6; order++) {
        Random random(liveblk::test::combine(seed(), order));
        BitModel model(order, random);
        Block block(model);
        for (unsigned round = 0; round < 20000; round++) {
            const auto index = static_cast<unsigned>(random.below(model.entries()));
            if (qcow2_refcount_get(block.data(), index, order) != model.get(index)) {
                CAPTURE(seed(), order, round, index, model.get(index));
                FAIL("read another value");
            }
            const std::uint64_t value = random.next() & model.largest();
            qcow2_refcount_set(block.data(), index, order, value);
            model.set(index, value);
            if (round % 256 == 0 && !block.same(model)) {
                CAPTURE(seed(), order, round, index, value);
                FAIL("wrote something else");
            }
        }
        CAPTURE(order);
        CHECK(block.same(model));
    }
}
