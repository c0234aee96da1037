// SPDX-License-Identifier: GPL-2.0-only
// How an image is changed.
//
// Everything that an edit changes is written to clusters that were free before: L1 and L2 tables, the snapshot table,
// refcount blocks, the refcount table. When all of it is durable, one write of the header's sector makes it the image.
// Until then the image on disk is the old one, to the byte in every cluster that is in use; from then on it is the new
// one. So a kill or a power loss at any moment leaves the one or the other, without so much as a leak. What the old
// image used is given back only after that, so that no edit writes to what it has freed itself.
//
// It also means that all but the header's write can be done, and thrown away, at no risk.
//
// Free clusters inside of the file come first, so that edits one after the other do not make it longer and longer. A
// cluster that the last edit has freed is free only once that edit's header is durable, and nobody knows that of an
// edit that was killed: a barrier comes before the first write to such a cluster.
//
// That a cluster is free is what its refcount says, which in a damaged image can be wrong. Metadata is spared whatever
// its refcounts are. Data is not known but for its refcounts, so that only holes of the file are taken, in which none
// is lost, until an edit has seen that all that is in use is counted.
#pragma once

#include "qcow2/image.hpp"
#include "qcow2/refcounts.hpp"
#include "qcow2/writer.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace liveblk::qcow2 {

// What an edit has to do with. Guest data may be in a file of its own, which an edit of metadata leaves alone.
enum class Touches { everything, metadata };

class Edit {
public:
    // The image must be writable and of a kind that can be edited, and clean.
    explicit Edit(Image &image, Refcounts::Start start = Refcounts::Start::from_image,
                  Touches touches = Touches::everything);
    Edit(const Edit &) = delete;
    Edit &operator=(const Edit &) = delete;
    // Without commit() nothing has changed.
    ~Edit();

    Image &image() { return image_; }
    Header &header() { return header_; } // as it is to become
    Refcounts &refcounts() { return refcounts_; }

    // Only to clusters that this edit has allocated.
    void write(std::span<const std::byte> bytes, std::uint64_t offset) { writer_.write(bytes, offset); }
    // A table of 64-bit entries in native order, filled up to a whole cluster; returns where it is.
    std::uint64_t write_table(std::span<const std::uint64_t> entries);
    // Any bytes, the same way.
    std::uint64_t write_new(std::span<const std::byte> bytes);
    // All that the image will refer to was found to be counted: whatever else is free can be taken.
    void all_in_use_is_counted();
    // Gives up clusters that a structure of so many bytes takes.
    void free_structure(std::uint64_t offset, std::uint64_t bytes);

    void commit();
    // After commit(): space that this edit has freed goes back to the host.
    void give_back();

private:
    void settle_what_is_free();
    void write_header();

    Image &image_;
    Header header_;
    Refcounts refcounts_;
    Writer writer_;
    std::uint64_t old_size_;
    bool places_known_ = false;
    bool settled_ = false;
    bool committed_ = false;
};

// Refuses images whose features the edits do not know, and those that have to be repaired first.
void require_editable(const Image &image, Touches touches = Touches::everything);

} // namespace liveblk::qcow2
