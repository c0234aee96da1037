// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/progress.hpp"
#include "qcow2/counters.hpp"
#include "qcow2/image.hpp"
#include "qcow2/l2_tables.hpp"

#include <fmt/core.h>

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace liveblk::qcow2 {

enum class Severity {
    leak,       // space that nothing uses and nobody can have
    corruption, // data is lost, or will be when the image is written to
};

struct Finding {
    Severity severity;
    std::string where;
    std::string what;
    std::string consequence;
};

struct CheckReport {
    std::vector<Finding> findings; // the first ones; the numbers below count all
    std::uint64_t leaks = 0;
    std::uint64_t corruptions = 0;
    std::uint64_t structural = 0; // those of the corruptions that counting anew does not repair
    std::uint64_t refcount_corruptions = 0;

    // The active disk.
    std::uint64_t total_clusters = 0;
    std::uint64_t allocated_clusters = 0;
    std::uint64_t compressed_clusters = 0;
    std::uint64_t zero_clusters = 0;
    std::uint64_t fragmented_clusters = 0;
    std::uint64_t shared_clusters = 0; // without the COPIED flag: written to a copy
    std::uint64_t image_end_offset = 0;

    static constexpr std::size_t max_findings = 1000;

    bool clean() const { return leaks == 0 && corruptions == 0; }

    // Texts, or functions that return them: a hostile image has more findings than there is time to write down.
    template <typename Where, typename What>
    void add(Severity severity, const Where &where, const What &what, const char *consequence)
    {
        (severity == Severity::leak ? leaks : corruptions)++;
        if (findings.size() < max_findings)
            findings.push_back({severity, text(where), text(what), consequence});
    }

private:
    template <typename Text>
    static std::string text(const Text &text)
    {
        if constexpr (std::is_invocable_v<Text>)
            return text();
        else
            return text;
    }
};

// Looks at every structure of an image, and compares the references it finds with the refcounts. Each L2 table is read
// once to count, however many snapshots share it, and those of the active disk a second time for their flags.
class Checker {
public:
    Checker(const Image &image, Progress &progress);

    CheckReport run();
    // The two halves of the counting, for a repair.
    void count_all_but_refcounts();
    const Counters &counters() const { return counters_; }
    const CheckReport &report() const { return report_; }

private:
    // A table and how often L1 tables refer to it.
    struct TableUse {
        std::uint64_t offset;
        std::uint64_t references;
    };

    enum class Place { good, outside, overlaps };

    Place take(std::uint64_t offset, std::uint64_t bytes, std::uint64_t references);
    // Counts the clusters of a piece of metadata. False if they are not in the image, or other metadata is in them:
    // what it refers to is not followed then, for many such pieces could take any time.
    template <typename Name>
    bool claim(const Name &name, std::uint64_t offset, std::uint64_t bytes, std::uint64_t references = 1);
    template <typename Where, typename What>
    void structural(const Where &where, const What &what, const char *consequence)
    {
        report_.structural++;
        report_.add(Severity::corruption, where, what, consequence);
    }
    void check_header();
    void count_refcount_structure();
    void count_snapshots();
    void count_encryption();
    void count_bitmaps();
    bool count_bitmap(std::span<const std::byte> directory, std::uint64_t &at, std::uint32_t number);
    void count_bitmap_table(std::uint32_t number, std::uint64_t offset, std::uint32_t entries);
    void use_l1(const std::string &whose, std::uint64_t offset, std::uint64_t entries);
    void merge_tables();
    void count_tables();
    void count_table(const TableUse &use);
    void compare();
    void compare_zeros(std::uint64_t cluster, std::uint64_t end);
    void compare_block(std::uint64_t index, std::span<const std::byte> block);
    void compare_cluster(std::uint64_t cluster, std::uint64_t refcount);
    void check_active();
    void check_active_table(std::uint64_t table, std::span<const std::uint64_t> words);
    void check_run(std::uint64_t table, std::size_t entry, const Run &run, bool copied);
    void check_table_flag(std::size_t index, std::uint64_t entry);
    bool to_be_checked(std::uint64_t table);

    const Image &image_;
    const Header &h_;
    Progress &progress_;
    L2Reader reader_;
    Counters counters_;
    CheckReport report_;
    std::vector<TableUse> tables_;
    std::size_t merged_ = 0;            // so many of tables_ are sorted and distinct
    std::vector<bool> to_check_;        // those of tables_ that are sound and whose flags have not been looked at
    std::vector<std::uint64_t> blocks_; // refcount blocks by index; 0 where there is none
    std::uint64_t next_contiguous_ = 0;
};

template <typename Name>
bool Checker::claim(const Name &name, std::uint64_t offset, std::uint64_t bytes, std::uint64_t references)
{
    const Place place = take(offset, bytes, references);
    if (place == Place::good)
        return true;
    const auto where = [&] {
        if constexpr (std::is_invocable_v<Name>)
            return fmt::format("{} at {:#x}", name(), offset);
        else
            return fmt::format("{} at {:#x}", name, offset);
    };
    if (place == Place::outside)
        structural(where, "it does not lie on cluster boundaries inside of the image", "what it holds is lost");
    else
        structural(where, "it overlaps other metadata", "one of them has overwritten the other, or will");
    return false;
}

} // namespace liveblk::qcow2
