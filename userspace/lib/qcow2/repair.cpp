// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/repair.hpp"

#include "base/error.hpp"
#include "qcow2/edit.hpp"
#include "qcow2/l2_tables.hpp"

#include <algorithm>

namespace liveblk::qcow2 {
namespace {

// Calls fn(cluster, refcount, references) where these differ.
template <typename Fn>
void for_each_difference(Refcounts &refcounts, const Counters &counters, Fn fn)
{
    for (std::uint64_t c = 0; c < counters.clusters();) {
        // A sparse file can have any number of clusters.
        if (const std::uint64_t nothing = std::min(refcounts.zeros_from(c), counters.zeros_from(c))) {
            c += std::min(nothing, counters.clusters() - c);
            continue;
        }
        const std::uint64_t refcount = refcounts.get(c);
        const std::uint64_t references = counters.get(c);
        if (refcount != references)
            fn(c, refcount, references);
        c++;
    }
}

void settle_flags(Edit &edit, Progress &progress)
{
    const Header &h = edit.image().header();
    if (!h.l1_size)
        return;
    const std::vector<std::uint64_t> old = edit.image().read_active_l1();
    const std::vector<std::uint64_t> l1 = L2Tables(edit, progress).settle_copied(old);
    if (l1 == old)
        return;
    edit.free_structure(h.l1_offset, 8ULL * h.l1_size);
    edit.header().l1_offset = edit.write_table(l1);
}

// Takes too high refcounts down, and no other. Not if it is uncertain what is in use: what cannot be read may refer to
// what looks leaked, and what has a refcount of 0 looks free.
void drop_leaks(Image &image, Progress &progress)
{
    Checker checker(image, progress);
    checker.run();
    if (checker.report().refcount_corruptions || checker.report().structural)
        fail("repair leaks of '{}': there is other damage, so that clusters which seem leaked or free may be in use; "
             "nothing is changed, see 'check --repair all'",
             image.path());
    Edit edit(image);
    edit.all_in_use_is_counted();
    for_each_difference(edit.refcounts(), checker.counters(), [&](auto cluster, auto refcount, auto references) {
        if (refcount > references)
            edit.refcounts().set(cluster, references);
    });
    settle_flags(edit, progress);
    edit.commit();
}

void give_back_free_space(Image &image)
{
    ImageFile &file = image.file();
    const unsigned bits = image.header().cluster_bits;
    Refcounts refcounts(image, Refcounts::Start::from_image);
    // What has freed it must not come back.
    file.barrier();
    const std::uint64_t end = refcounts.end_of_use();
    refcounts.for_each_free_run(end, [&](const Run &run) {
        if (!file.is_hole(run.first << bits, run.count << bits))
            file.punch(run.first << bits, run.count << bits);
    });
    if (end << bits < file.size())
        file.truncate(end << bits);
}

// Of an image in which a check finds nothing wrong: what is free and takes space on the host, and what lies behind all
// that is in use. Returns how much less the host has allocated then.
std::uint64_t give_back(Image &image)
{
    const std::uint64_t before = image.file().host_bytes();
    try {
        give_back_free_space(image);
    } catch (const Error &) {
        // The image is as it should be: what cannot be given back is space, and no failure.
    }
    const std::uint64_t after = image.file().host_bytes();
    return before > after ? before - after : 0;
}

// What refers to nowhere stays as it is, but no cluster in use is counted too low.
void raise_only(Image &image, Progress &progress)
{
    Checker checker(image, progress);
    checker.run();
    Edit edit(image);
    edit.refcounts().reach(Reach::behind_end);
    for_each_difference(edit.refcounts(), checker.counters(), [&](auto cluster, auto refcount, auto references) {
        if (refcount < references)
            edit.refcounts().set(cluster, references);
    });
    if (edit.refcounts().changed())
        edit.commit();
}

// Refcounts written anew from what was counted; the old ones are not even read.
void count_anew(Image &image, Progress &progress)
{
    Checker checker(image, progress);
    checker.count_all_but_refcounts();
    if (checker.report().structural)
        return raise_only(image, progress);
    const Counters &counters = checker.counters();
    Edit edit(image, Refcounts::Start::empty);
    for (std::uint64_t c = 0; c < counters.clusters(); c++) {
        c += std::min(counters.zeros_from(c), counters.clusters() - 1 - c);
        if (const std::uint64_t references = counters.get(c))
            edit.refcounts().set(c, references);
    }
    settle_flags(edit, progress);
    edit.commit();
}

void clear_bits(Image &image, std::uint64_t bits)
{
    Edit edit(image);
    edit.header().incompatible &= ~bits;
    edit.commit();
    image.reload();
}

void repair_once(Image &image, Repair repair, const CheckReport &found, Progress &progress)
{
    if (repair == Repair::leaks || (!found.corruptions && found.leaks))
        drop_leaks(image, progress);
    else
        count_anew(image, progress);
    image.reload();
}

} // namespace

RepairResult check_and_repair(Image &image, Repair repair, Progress &progress)
{
    RepairResult result;
    result.found = result.left = Checker(image, progress).run();
    if (repair == Repair::nothing)
        return result;
    require_editable(image);
    const bool worth = repair == Repair::all ? !result.found.clean() : result.found.leaks != 0;
    if (worth) {
        repair_once(image, repair, result.found, progress);
        result.left = Checker(image, progress).run();
    }
    const std::uint64_t bits = image.header().incompatible & (incompat_dirty | incompat_corrupt);
    if (repair == Repair::all && bits && !result.left.corruptions)
        clear_bits(image, bits);
    if (result.left.clean())
        result.given_back = give_back(image);
    return result;
}

bool make_consistent(Image &image, Progress &progress, Touches touches)
{
    if (image.header().incompatible & incompat_corrupt)
        fail("edit '{}': it is marked corrupt; run 'check --repair all' first", image.path());
    require_editable(image, touches);
    if (!(image.header().incompatible & incompat_dirty))
        return false;
    if (image.header().has_data_file())
        not_supported(
            "edit '{}': it was not closed cleanly, and has an external data file; run 'qemu-img check -r all' "
            "first",
            image.path());
    const RepairResult result = check_and_repair(image, Repair::all, progress);
    if (result.left.corruptions)
        fail("edit '{}': it was not closed cleanly, and {} corruptions could not be repaired; see 'check'",
             image.path(), result.left.corruptions);
    return true;
}

} // namespace liveblk::qcow2
