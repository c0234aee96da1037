// SPDX-License-Identifier: GPL-2.0-only
// The catalogue of hostile images: each has a name, a way to make it and what must come of it.
#pragma once

#include "image.hpp"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace hostile {

enum class Expect {
    refuse,       // no device; one line of log says which image and why; no byte of the image changes
    io,           // a device; the corrupt places fail with an I/O error, the others work
    ok,           // a valid image, although strange: everything works and nothing is logged as an error
    refuse_or_io, // both are right, since finding it at attach may cost too much
};

struct Case {
    std::string name;
    Expect expect = Expect::io;
    // What the log line must match (extended regular expression, case ignored).
    std::string reason;
    Geometry geometry;
    std::function<void(Image &)> make;

    bool read_only = false;
    // The table's parameters; %i stands for the image. Empty: the image alone.
    std::string params;
    // Sectors in the table; 0: those of the image that the writer made.
    std::uint64_t table_sectors = 0;
    // With refcounts that lie, a data cluster may be handed out twice: nothing that was read
    // before a write is promised after it. Metadata stays protected all the same.
    bool aliases = false;
    // The table of this case is about something else than a file in QCOW2 format.
    bool no_image = false;
};

class Catalogue {
public:
    // With block devices the images lie on devices that are larger than they are.
    explicit Catalogue(bool block_device) : block_device_(block_device) {}

    Case &add(const std::string &name, Expect expect, const std::string &reason, const Geometry &geometry,
              std::function<void(Image &)> make);
    const std::vector<Case> &cases() const { return cases_; }
    const Case &find(const std::string &name) const;

private:
    bool block_device_;
    std::vector<Case> cases_;
    std::map<std::string, std::size_t> index_;
};

Catalogue make_catalogue(bool block_device);

std::string to_string(Expect expect);

// Geometries that most cases use: small tables, so that a whole image is a few hundred KiB.
constexpr Geometry v2{.version = 2};
constexpr Geometry v3{.version = 3};
constexpr Geometry v3_snapshot{.version = 3, .snapshot = true};
constexpr Geometry extended{.version = 3, .cluster_bits = 14, .extended = true};
constexpr Geometry extended_64k{.version = 3, .cluster_bits = 16, .extended = true};
constexpr Geometry extended_snapshot{.version = 3, .cluster_bits = 14, .snapshot = true, .extended = true};
constexpr Geometry v3_64k{.version = 3, .cluster_bits = 16};

void add_truncated_cases(Catalogue &catalogue);
void add_header_cases(Catalogue &catalogue);
void add_feature_cases(Catalogue &catalogue);
void add_extension_cases(Catalogue &catalogue);
void add_l1_cases(Catalogue &catalogue);
void add_l2_cases(Catalogue &catalogue);
void add_refcount_cases(Catalogue &catalogue);
void add_snapshot_cases(Catalogue &catalogue);
void add_bitmap_cases(Catalogue &catalogue);
void add_table_cases(Catalogue &catalogue);
void add_valid_cases(Catalogue &catalogue);

} // namespace hostile
