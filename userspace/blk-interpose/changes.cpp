// SPDX-License-Identifier: GPL-2.0-only
#include "changes.hpp"

#include "base/error.hpp"
#include "health.hpp"

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>

namespace liveblk::interpose {
namespace {

// "METADATA-DEVICE ORIGIN-DEVICE BLOCK-SECTORS", with numbers for devices.
struct EraTable {
    std::string metadata;
    std::uint64_t block_sectors = 0;
    std::uint64_t sectors = 0;
};

// The node of a device that a table names by its number.
std::string node_of(const std::string &number)
{
    std::ifstream file(fmt::format("/sys/dev/block/{}/uevent", number));
    const std::string key = "DEVNAME=";
    for (std::string line; std::getline(file, line);)
        if (line.starts_with(key))
            return "/dev/" + line.substr(key.size());
    fail("find the device {}: it is not in sysfs", number);
}

EraTable table_of(const dm::Device &era)
{
    const auto table = era.table();
    if (table.size() != 1 || table[0].type != "era")
        fail("read the changes of '{}': it is not a device of dm-era", era.name());
    std::istringstream stream(table[0].params);
    EraTable result;
    std::string origin;
    stream >> result.metadata >> origin >> result.block_sectors;
    if (!stream || !result.block_sectors)
        fail("read the changes of '{}': what is the table '{}'?", era.name(), table[0].params);
    result.sectors = table[0].length;
    return result;
}

// While it lives, the metadata of a moment can be read.
class MetadataSnapshot {
public:
    explicit MetadataSnapshot(const dm::Device &era) : era_(era) { era_.message("take_metadata_snap"); }
    MetadataSnapshot(const MetadataSnapshot &) = delete;
    MetadataSnapshot &operator=(const MetadataSnapshot &) = delete;
    ~MetadataSnapshot()
    {
        try {
            era_.message("drop_metadata_snap");
        } catch (const Error &e) {
            fmt::print(stderr, "blk-interpose: {}\n", e.what());
        }
    }

private:
    const dm::Device &era_;
};

// thin-provisioning-tools knows the format on disk.
std::string run_era_invalidate(const std::string &device, std::uint64_t since)
{
    const std::string command = fmt::format("era_invalidate --metadata-snapshot --written-since {} {}", since, device);
    const auto close = [](std::FILE *pipe) { return ::pclose(pipe); };
    std::unique_ptr<std::FILE, decltype(close)> pipe(::popen(command.c_str(), "r"), close);
    if (!pipe)
        fail_errno("run era_invalidate");
    std::string text;
    std::array<char, 4096> buffer;
    while (const std::size_t got = std::fread(buffer.data(), 1, buffer.size(), pipe.get()))
        text.append(buffer.data(), got);
    const int status = ::pclose(pipe.release());
    if (status == -1 || status >> 8 == 127)
        fail("run era_invalidate: it is not installed (package thin-provisioning-tools)");
    if (status != 0)
        fail("run era_invalidate on '{}': it failed with status {}", device, status >> 8);
    return text;
}

// <range begin="1" end = "5"/> and <block block="7"/>
std::vector<ChangedRange> parse_blocks(const std::string &xml, const EraTable &table)
{
    const std::uint64_t granule = table.block_sectors * 512;
    std::vector<ChangedRange> ranges;
    std::istringstream elements(xml);
    for (std::string element; std::getline(elements, element, '>');) {
        const std::size_t start = element.find('<');
        const char *const text = element.c_str() + (start == std::string::npos ? 0 : start);
        std::uint64_t first = 0;
        std::uint64_t end = 0;
        if (std::sscanf(text, "<block block = \"%" SCNu64, &first) == 1)
            end = first + 1;
        else if (std::sscanf(text, "<range begin = \"%" SCNu64 "\" end = \"%" SCNu64, &first, &end) != 2)
            continue;
        ranges.push_back({first * granule, std::min(end * granule, table.sectors * 512)});
    }
    return ranges;
}

} // namespace

std::uint64_t current_era(const dm::Device &era)
{
    table_of(era);
    // "BLOCK-SIZE USED/TOTAL ERA HELD-ROOT"
    const auto status = era.status();
    if (const auto reason = failure_of(status.at(0)))
        fail("read the era of '{}': {}", era.name(), *reason);
    std::istringstream stream(status.at(0).params);
    std::string word;
    std::uint64_t number = 0;
    stream >> word >> word >> number;
    if (!stream)
        fail("read the era of '{}': what is the status '{}'?", era.name(), status[0].params);
    return number;
}

Changes read_changes(const dm::Device &era, std::uint64_t since)
{
    const EraTable table = table_of(era);
    era.message("checkpoint");
    Changes changes;
    changes.since = since;
    changes.now = current_era(era);
    changes.granule = table.block_sectors * 512;
    const MetadataSnapshot snapshot(era);
    // Eras begin with 1; blocks that have never been written are those of era 0.
    const std::uint64_t first = std::max<std::uint64_t>(since, 1);
    changes.ranges = parse_blocks(run_era_invalidate(node_of(table.metadata), first), table);
    return changes;
}

} // namespace liveblk::interpose
