// SPDX-License-Identifier: GPL-2.0-only
// Files whose state at each moment is known.
//
// interposer-tree write DIRECTORY PROGRESS: makes, renames and removes files until it is killed, one call after the
// other. PROGRESS, which is to be on another file system, has the number of steps that are done.
//
// interposer-tree check DIRECTORY FROM TO: whether the directory is what it was after one of these steps, or in the
// middle of the next one, to the last byte. A step more or less, or a file of another moment, fails.
#include "base/error.hpp"
#include "base/unique_fd.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

using namespace liveblk;
namespace fs = std::filesystem;

namespace {

// File i is written to "tmp" (step 3i + 1), renamed (3i + 2), and the one this much older is removed (3i + 3).
constexpr std::uint64_t kept = 24;
constexpr std::uint64_t steps_per_file = 3;
constexpr std::size_t piece = 8192;

// Any file differs from any other in each word.
std::string content(std::uint64_t file)
{
    std::uint64_t state = (file + 1) * 0x9e3779b97f4a7c15;
    std::string text((file * 7 % 11 + 1) * 4096 + file % 512, '\0');
    for (char &c : text) {
        state = state * 6364136223846793005 + 1442695040888963407;
        c = static_cast<char>(state >> 56);
    }
    return text;
}

std::string name(std::uint64_t file)
{
    return fmt::format("f{}", file);
}

void write_file(const fs::path &path, const std::string &text, bool durable)
{
    const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!fd)
        fail_errno(fmt::format("create '{}'", path.string()));
    for (std::size_t at = 0; at < text.size(); at += piece) {
        const std::size_t length = std::min(piece, text.size() - at);
        if (::write(fd.get(), text.data() + at, length) != static_cast<ssize_t>(length))
            fail_errno(fmt::format("write '{}'", path.string()));
    }
    if (durable && ::fsync(fd.get()) != 0)
        fail_errno(fmt::format("fsync '{}'", path.string()));
}

class Progress {
public:
    explicit Progress(const std::string &path)
        : fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644))
    {
        if (!fd_)
            fail_errno(fmt::format("create '{}'", path));
    }
    void done()
    {
        const std::string text = fmt::format("{}\n", ++steps_);
        if (::pwrite(fd_.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
            fail_errno("write the progress");
    }

private:
    UniqueFd fd_;
    std::uint64_t steps_ = 0;
};

void write_tree(const fs::path &directory, const std::string &progress_path)
{
    Progress progress(progress_path);
    for (std::uint64_t i = 0;; i++) {
        write_file(directory / "tmp", content(i), i % 8 == 0);
        progress.done();
        fs::rename(directory / "tmp", directory / name(i));
        progress.done();
        if (i >= kept)
            fs::remove(directory / name(i - kept));
        progress.done();
    }
}

std::string read_file(const fs::path &path)
{
    std::ifstream file(path, std::ios::binary);
    std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (!file)
        fail("read '{}'", path.string());
    return text;
}

// The files that are there after so many steps, but for "tmp".
std::set<std::string> files_after(std::uint64_t steps)
{
    const std::uint64_t rounds = steps / steps_per_file;
    std::set<std::string> files;
    // In the middle of a round the new file is there already, and the oldest one is still.
    const std::uint64_t end = rounds + (steps % steps_per_file == 2);
    for (std::uint64_t i = rounds > kept ? rounds - kept : 0; i < end; i++)
        files.insert(name(i));
    return files;
}

// While "tmp" is being written it has a beginning of what it is to have.
bool is_tmp_of(std::uint64_t steps, const fs::path &tmp)
{
    const bool there = fs::exists(tmp);
    switch (steps % steps_per_file) {
    case 0: {
        if (!there)
            return true;
        return content(steps / steps_per_file).starts_with(read_file(tmp));
    }
    case 1:
        return there && read_file(tmp) == content(steps / steps_per_file);
    default:
        return !there;
    }
}

void check_tree(const fs::path &directory, std::uint64_t from, std::uint64_t to)
{
    std::set<std::string> found;
    for (const auto &entry : fs::directory_iterator(directory))
        if (const std::string file = entry.path().filename(); file != "tmp" && file != "lost+found")
            found.insert(file);
    for (std::uint64_t steps = from; steps <= to; steps++) {
        if (files_after(steps) != found || !is_tmp_of(steps, directory / "tmp"))
            continue;
        for (const std::string &file : found)
            if (read_file(directory / file) != content(std::stoull(file.substr(1))))
                fail("compare '{}': it does not hold what was written", file);
        fmt::print("the state after step {} of {} to {}: {} files\n", steps, from, to, found.size());
        return;
    }
    fail("compare: {} files from '{}' to '{}' are the state after no step from {} to {}", found.size(),
         found.empty() ? "" : *found.begin(), found.empty() ? "" : *found.rbegin(), from, to);
}

} // namespace

int main(int argc, char **argv)
{
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    try {
        if (arguments.size() == 3 && arguments[0] == "write")
            write_tree(arguments[1], arguments[2]);
        else if (arguments.size() == 4 && arguments[0] == "check")
            check_tree(arguments[1], std::stoull(arguments[2]), std::stoull(arguments[3]));
        else
            fail("usage: interposer-tree write DIRECTORY PROGRESS | check DIRECTORY FROM TO");
        return 0;
    } catch (const std::exception &e) {
        std::fprintf(stderr, "interposer-tree: %s\n", e.what());
        return 1;
    }
}
