// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"
#include "location.hpp"

#include "base/byte_size.hpp"
#include "base/error.hpp"
#include "base/json.hpp"
#include "base/kernel_module.hpp"

#include <loop-copy.h>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

namespace liveblk::copy {
namespace {

const std::string prefix = "loopc";
constexpr std::uint64_t sector = 512;

struct Arguments {
    std::string file;
    std::string device;
    std::string block_size;
    bool read_only = false;
    bool autoclear = false;
    bool partscan = false;
    bool buffered = false;
    bool json = false;
};

class Control {
public:
    Control() : fd_(open_module_device(LOOP_COPY_DEVICE, "loop-copy"))
    {
        std::uint32_t version = 0;
        if (::ioctl(fd_.get(), LOOP_COPY_GET_VERSION, &version) != 0)
            fail_errno("ask the kernel module for its version");
        if (version != LOOP_COPY_VERSION)
            fail("use the kernel module: it speaks version {}, this program {}", version, LOOP_COPY_VERSION);
    }

    template <typename Argument>
    void call(unsigned long request, Argument &argument, const std::string &what) const
    {
        if (::ioctl(fd_.get(), request, &argument) != 0)
            fail_errno(what);
    }

private:
    UniqueFd fd_;
};

// The n of /dev/loopcn or loopcn.
std::uint32_t number_of(const std::string &device)
{
    const std::string name = std::filesystem::path(device).filename();
    std::uint32_t number = 0;
    const char *end = name.data() + name.size();
    const bool ours = name.starts_with(prefix);
    const auto parsed = std::from_chars(name.data() + (ours ? prefix.size() : 0), end, number);
    if (!ours || parsed.ec != std::errc() || parsed.ptr != end)
        fail("use '{}': it is no disk of loop-copy", device);
    return number;
}

// The least that direct I/O on a file is possible in; 0 where that is not known, or there is none.
std::uint32_t direct_block(int file)
{
    struct statx st {};
    if (::statx(file, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) != 0 || !(st.stx_mask & STATX_DIOALIGN))
        return 0;
    return st.stx_dio_offset_align;
}

std::uint32_t block_size_of(const Arguments &args, int file)
{
    if (args.block_size.empty())
        return 0;
    const std::uint64_t size = parse_bytes(args.block_size);
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    if (!std::has_single_bit(size) || size < sector || size > page)
        fail("attach '{}': a block size of {} is not possible: it has to be a power of two from {} to {}", args.file,
             size, sector, page);
    if (const std::uint32_t least = direct_block(file); size < least && !args.buffered)
        fail("attach '{}': a block size of {} is not possible: direct I/O on this file needs {} (or --buffered)",
             args.file, size, least);
    return static_cast<std::uint32_t>(size);
}

std::string attribute(const std::filesystem::path &path)
{
    std::ifstream file(path);
    std::string text;
    std::getline(file, text);
    return text;
}

// What does not fill a block at the end of the file, nobody sees on the disk.
void warn_of_rest(const std::string &file, std::uint64_t file_size, const std::string &disk)
{
    const std::filesystem::path sysfs = "/sys/block/" + disk;
    const std::string sectors = attribute(sysfs / "size");
    const std::string block = attribute(sysfs / "queue/logical_block_size");
    // It may have gone already.
    if (sectors.empty())
        return;
    const std::uint64_t size = std::stoull(sectors) * sector;
    if (file_size > 0 && size == 0)
        fmt::print(stderr, "blk-copy: warning: '{}': it is smaller than a block of {} bytes: /dev/{} has no bytes\n",
                   file, block, disk);
    else if (file_size > size)
        fmt::print(stderr, "blk-copy: warning: '{}': the last {} bytes are no block of {} and not part of /dev/{}\n",
                   file, file_size - size, block, disk);
}

void attach(const Arguments &args)
{
    loop_copy_attach call = {};
    call.flags = (args.read_only ? LOOP_COPY_READ_ONLY : 0) | (args.autoclear ? LOOP_COPY_AUTOCLEAR : 0) |
                 (args.partscan ? LOOP_COPY_PARTSCAN : 0) | (args.buffered ? LOOP_COPY_BUFFERED : 0);
    const UniqueFd file(::open(args.file.c_str(), (args.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
    if (!file)
        fail_errno(fmt::format("open '{}'", args.file));
    struct stat st {};
    if (::fstat(file.get(), &st) != 0)
        fail_errno(fmt::format("look at '{}'", args.file));
    if (!S_ISREG(st.st_mode))
        fail("attach '{}': it is no regular file", args.file);
    call.fd = file.get();
    call.block_size = block_size_of(args, file.get());
    const Control control;
    control.call(LOOP_COPY_ATTACH, call, fmt::format("attach '{}'", args.file));
    const std::string disk = fmt::format("{}{}", prefix, call.number);
    warn_of_rest(args.file, static_cast<std::uint64_t>(st.st_size), disk);
    fmt::print("/dev/{}\n", disk);
}

void on_disk(const Arguments &args, unsigned long request, const std::string &verb)
{
    loop_copy_disk call = {.number = number_of(args.device), .reserved = 0};
    const Control control;
    control.call(request, call, fmt::format("{} '{}'", verb, args.device));
}

struct Disk {
    std::string name;
    std::string file;
    std::uint64_t size = 0;
    std::uint64_t block_size = 0;
    bool read_only = false;
    bool autoclear = false;
    bool direct = false;
};

Disk describe(const std::filesystem::path &disk)
{
    const auto ours = disk / "loop-copy";
    return {.name = "/dev/" + disk.filename().string(),
            .file = attribute(ours / "backing_file"),
            .size = std::stoull("0" + attribute(disk / "size")) * sector,
            .block_size = std::stoull("0" + attribute(disk / "queue/logical_block_size")),
            .read_only = attribute(disk / "ro") == "1",
            .autoclear = attribute(ours / "autoclear") == "1",
            .direct = attribute(ours / "dio") == "1"};
}

std::vector<Disk> all_disks()
{
    std::vector<std::filesystem::path> folders;
    for (const auto &entry : std::filesystem::directory_iterator("/sys/block"))
        if (std::filesystem::exists(entry.path() / "loop-copy"))
            folders.push_back(entry.path());
    std::sort(folders.begin(), folders.end(),
              [](const auto &a, const auto &b) { return number_of(a.string()) < number_of(b.string()); });
    std::vector<Disk> disks;
    for (const auto &folder : folders)
        disks.push_back(describe(folder));
    return disks;
}

void print_as_json(const std::vector<Disk> &disks)
{
    Json all = Json::array();
    for (const Disk &disk : disks)
        all.push_back({{"name", disk.name},
                       {"file", disk.file},
                       {"size", disk.size},
                       {"block_size", disk.block_size},
                       {"read_only", disk.read_only},
                       {"autoclear", disk.autoclear},
                       {"direct", disk.direct}});
    all.print();
}

void list(const Arguments &args)
{
    const std::vector<Disk> disks = all_disks();
    if (args.json)
        return print_as_json(disks);
    fmt::print("{:<14} {:>16} {:>3} {:>4} {:>9} {}\n", "NAME", "SIZE", "RO", "DIO", "AUTOCLEAR", "BACK-FILE");
    for (const Disk &disk : disks)
        fmt::print("{:<14} {:>16} {:>3} {:>4} {:>9} {}\n", disk.name, disk.size, disk.read_only ? 1 : 0,
                   disk.direct ? 1 : 0, disk.autoclear ? 1 : 0, disk.file);
}

void add_attach(Command loop, const std::shared_ptr<Arguments> &args)
{
    Command command = loop.command("attach", "attach a file as a disk and print its path");
    command.add("FILE", args->file, "regular file").required();
    command.flag("-r,--read-only", args->read_only, "the disk cannot be written");
    command.flag("-P,--partscan", args->partscan, "look for partitions");
    command.flag("--autoclear", args->autoclear, "detach when it is closed for the last time");
    command.flag("--buffered", args->buffered, "through the page cache, although direct I/O is possible");
    command.add("-b,--block-size", args->block_size, "logical block size of the disk");
    command.action([args] { attach(*args); });
}

void add_on_disk(Command loop, const std::shared_ptr<Arguments> &args, const std::string &name, const std::string &what,
                 unsigned long request)
{
    Command command = loop.command(name, what);
    command.add("DEVICE", args->device, "/dev/loopcN").required();
    command.action([args, request, name] { on_disk(*args, request, name); });
}

} // namespace

void add_loop(Command root)
{
    Command loop = root.command("loop", "disks in files (loop-copy)");
    loop.needs_command();
    const auto args = std::make_shared<Arguments>();
    add_attach(loop, args);
    add_on_disk(loop, args, "detach", "detach a disk that is not open", LOOP_COPY_DETACH);
    add_on_disk(loop, args, "resize", "give a disk the size that its file has now", LOOP_COPY_RESIZE);
    Command show = loop.command("list", "list disks");
    show.flag("--json", args->json, "print JSON");
    show.action([args] { list(*args); });
}

} // namespace liveblk::copy
