// SPDX-License-Identifier: GPL-2.0-only
#include "guest_log.hpp"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

namespace liveblk::unit::txn {

namespace {

constexpr std::uint64_t magic = 0x6775657374203a29U;

std::uint64_t word(const Sector &s, std::size_t at)
{
    std::uint64_t value;
    std::memcpy(&value, s.data() + 8 * at, sizeof(value));
    return value;
}

} // namespace

Sector GuestLog::content(std::uint64_t sector, std::uint32_t version)
{
    Sector s;
    s.fill(0x5a);
    const std::uint64_t words[] = {magic, sector, version};
    std::memcpy(s.data(), words, sizeof(words));
    std::memcpy(s.data() + s.size() - sizeof(words), words, sizeof(words));
    return s;
}

std::uint64_t GuestLog::sectors_in(std::uint64_t cluster) const
{
    return std::min<std::uint64_t>(sectors_per_cluster_, sectors_ - cluster * sectors_per_cluster_);
}

std::vector<std::vector<GuestLog::Version>> &GuestLog::cluster(std::uint64_t number)
{
    auto &c = clusters_[number];
    if (c.empty())
        c.assign(sectors_per_cluster_, {Version{true, 0, 0, never}});
    return c;
}

std::vector<GuestLog::Version> &GuestLog::sector(std::uint64_t number)
{
    return cluster(number / sectors_per_cluster_)[number % sectors_per_cluster_];
}

void GuestLog::begin_with_data(std::uint64_t number, std::uint64_t sector_in_it)
{
    cluster(number)[sector_in_it][0].zeros = false;
}

GuestLog::Change GuestLog::begin(std::uint64_t first, std::uint64_t count, bool zeros)
{
    Change change{first, now(), {}};
    for (std::uint64_t i = 0; i < count; i++) {
        auto &s = sector(first + i);
        change.versions.push_back(static_cast<std::uint32_t>(s.size()));
        s.push_back({zeros, change.start, never, never});
    }
    return change;
}

void GuestLog::end(const Change &change, bool done)
{
    const std::uint64_t end = now();
    for (std::size_t i = 0; i < change.versions.size(); i++) {
        auto &s = sector(change.first + i);
        s[change.versions[i]].end = end;
        for (Version &v : s)
            if (done && v.end < change.start && v.gone == never)
                v.gone = end;
    }
}

std::string GuestLog::judge(std::uint64_t number, const Sector *found, std::uint64_t since) const
{
    const auto at = clusters_.find(number / sectors_per_cluster_);
    if (at == clusters_.end())
        return found ? fmt::format("guest sector {} was never written", number) : "";
    const auto &s = at->second[number % sectors_per_cluster_];
    if (!found) {
        for (const Version &v : s)
            if (v.zeros && v.gone > since)
                return "";
        return fmt::format("guest sector {} is lost: it reads as zeros", number);
    }
    const std::uint64_t version = word(*found, 2);
    if (word(*found, 0) != magic || word(*found, 1) != number || version >= s.size() || s[version].zeros ||
        *found != content(number, static_cast<std::uint32_t>(version)))
        return fmt::format("guest sector {} has data that belongs elsewhere ({:#x}, {}, {})", number, word(*found, 0),
                           word(*found, 1), version);
    if (s[version].gone <= since)
        return fmt::format("guest sector {} is lost: it has version {} of {}", number, version, s.size());
    return "";
}

void GuestLog::begin_anew_with(std::uint64_t number, const Sector *found)
{
    auto &s = sector(number);
    bool seen = false;
    for (std::size_t i = 0; i < s.size(); i++) {
        const bool is = !seen && (found ? !s[i].zeros && word(*found, 2) == i : s[i].zeros);
        seen |= is;
        s[i].start = 0;
        s[i].end = 0;
        s[i].gone = is ? never : 0;
    }
}

} // namespace liveblk::unit::txn
