// SPDX-License-Identifier: GPL-2.0-only
#include "cases.hpp"

namespace hostile {

Case &Catalogue::add(const std::string &name, Expect expect, const std::string &reason, const Geometry &geometry,
                     std::function<void(Image &)> make)
{
    if (!index_.emplace(name, cases_.size()).second)
        throw std::logic_error("two cases are named " + name);
    Case c;
    c.name = name;
    c.expect = expect;
    c.reason = reason;
    c.geometry = geometry;
    c.geometry.block_device = block_device_;
    c.make = std::move(make);
    return cases_.emplace_back(std::move(c));
}

const Case &Catalogue::find(const std::string &name) const
{
    auto at = index_.find(name);
    if (at == index_.end())
        throw std::runtime_error("no case is named " + name);
    return cases_[at->second];
}

Catalogue make_catalogue(bool block_device)
{
    Catalogue catalogue(block_device);
    add_valid_cases(catalogue);
    add_truncated_cases(catalogue);
    add_header_cases(catalogue);
    add_feature_cases(catalogue);
    add_extension_cases(catalogue);
    add_l1_cases(catalogue);
    add_l2_cases(catalogue);
    add_refcount_cases(catalogue);
    add_snapshot_cases(catalogue);
    add_bitmap_cases(catalogue);
    add_table_cases(catalogue);
    return catalogue;
}

std::string to_string(Expect expect)
{
    switch (expect) {
    case Expect::refuse:
        return "refuse";
    case Expect::io:
        return "io";
    case Expect::ok:
        return "ok";
    case Expect::refuse_or_io:
        return "refuse-or-io";
    }
    return "?";
}

} // namespace hostile
