// SPDX-License-Identifier: GPL-2.0-only
#include "health.hpp"

#include "base/error.hpp"
#include "dm/sysfs.hpp"
#include "dm/table.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <string_view>

namespace liveblk::interpose {
namespace {

using Words = std::vector<std::string>;

bool has(const Words &words, std::string_view word)
{
    return std::find(words.begin(), words.end(), word) != words.end();
}

std::optional<std::string> failure_of_snapshot(const Words &words)
{
    static const std::map<std::string, std::string, std::less<>> reasons = {
        {"Invalid", "its store has failed or ran full, and the snapshot is lost"},
        {"Overflow", "its store ran full, and the snapshot is lost"},
        {"Merge", "its merge has failed"},
        {"Unknown", "what it has stored is not known"}};
    const auto found = reasons.find(words[0]);
    return found != reasons.end() ? std::optional(found->second) : std::nullopt;
}

// "BLOCK-SIZE USED/TOTAL ERA HELD-ROOT"
std::optional<std::string> failure_of_era(const Words &words)
{
    const auto slash = words.size() > 1 ? words[1].find('/') : std::string::npos;
    if (slash != std::string::npos && words[1].substr(0, slash) == words[1].substr(slash + 1))
        return "the device of its record is full";
    return std::nullopt;
}

std::optional<std::string> failure_of_pool(const Words &words)
{
    if (has(words, "out_of_data_space"))
        return "it has no space left";
    if (has(words, "needs_check"))
        return "its metadata has to be checked";
    if (has(words, "ro"))
        return "its metadata cannot be written";
    return std::nullopt;
}

// "COUNT DEVICE... SYNCED/ALL 1 HEALTH ...", with a letter for each device.
std::optional<std::string> failure_of_mirror(const Words &words)
{
    std::size_t count = 0;
    std::from_chars(words[0].data(), words[0].data() + words[0].size(), count);
    if (words.size() > count + 3 && words[count + 3].find_first_not_of('A') != std::string::npos)
        return "one of its devices has failed";
    return std::nullopt;
}

// "LEVEL COUNT HEALTH ...", likewise.
std::optional<std::string> failure_of_raid(const Words &words)
{
    if (words.size() > 2 && words[2].find('D') != std::string::npos)
        return "one of its devices has failed";
    return std::nullopt;
}

std::optional<std::string> failure_of_writecache(const Words &words)
{
    if (words[0] != "0")
        return "it has failed with error " + words[0];
    return std::nullopt;
}

std::optional<std::string> failure_of_log(const Words &words)
{
    if (has(words, "logging_disabled"))
        return "it has stopped writing its log";
    return std::nullopt;
}

std::optional<std::string> failure_of_verity(const Words &words)
{
    if (words[0] == "C")
        return "it has found blocks that are not what was signed";
    return std::nullopt;
}

using Judge = std::optional<std::string> (*)(const Words &);

const std::map<std::string, Judge, std::less<>> judges = {{"snapshot", failure_of_snapshot},
                                                          {"snapshot-merge", failure_of_snapshot},
                                                          {"era", failure_of_era},
                                                          {"thin-pool", failure_of_pool},
                                                          {"cache", failure_of_pool},
                                                          {"clone", failure_of_pool},
                                                          {"mirror", failure_of_mirror},
                                                          {"raid", failure_of_raid},
                                                          {"writecache", failure_of_writecache},
                                                          {"log-writes", failure_of_log},
                                                          {"verity", failure_of_verity}};

// Snapshots are on the lower disk, but not below the origin.
std::set<stack::DeviceNumber> all_devices(const blk_interposer_status &pair)
{
    std::set<stack::DeviceNumber> seen = {pair.lower};
    std::vector<stack::DeviceNumber> todo = stack::numbers_in_each(stack::sysfs_of(pair.lower) / "holders");
    todo.push_back(pair.target);
    while (!todo.empty()) {
        const stack::DeviceNumber device = todo.back();
        todo.pop_back();
        if (!device || !seen.insert(device).second)
            continue;
        const auto below = stack::numbers_in_each(stack::sysfs_of(device) / "slaves");
        todo.insert(todo.end(), below.begin(), below.end());
    }
    return seen;
}

} // namespace

std::optional<std::string> failure_of(const dm::Target &status)
{
    const Words words = dm::split_words(status.params);
    if (words.empty())
        return std::nullopt;
    const auto judge = judges.find(status.type);
    if (judge != judges.end())
        if (auto reason = judge->second(words))
            return reason;
    static const std::set<std::string, std::less<>> failed = {"Fail", "Error", "fail", "Invalid"};
    if (failed.contains(words[0]))
        return fmt::format("it has failed: its status is '{}'", status.params);
    return std::nullopt;
}

std::vector<Failure> failures_of(const blk_interposer_status &pair)
{
    std::vector<Failure> failures;
    for (const stack::DeviceNumber number : all_devices(pair)) {
        const auto device = dm::Device::find(stack::node_of(number));
        if (!device)
            continue;
        for (const dm::Target &status : device->status())
            if (auto reason = failure_of(status))
                failures.push_back({device->name(), status.type, std::move(*reason)});
    }
    return failures;
}

std::string describe(const Failure &failure)
{
    return fmt::format("'{}' ({}): {}", failure.device, failure.type, failure.reason);
}

} // namespace liveblk::interpose
