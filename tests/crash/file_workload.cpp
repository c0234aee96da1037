// SPDX-License-Identifier: GPL-2.0-only
#include "file_workload.hpp"

#include "base/unique_fd.hpp"
#include "error.hpp"
#include "guest_file.hpp"
#include "random.hpp"
#include "recorder.hpp"

#include <fmt/core.h>

#include <fcntl.h>
#include <unistd.h>

#include <vector>

namespace liveblk::crash {
namespace {

UniqueFd open_or_throw(const std::string &path, int flags)
{
    UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC, 0644));
    if (!fd)
        test::throw_errno("open " + path);
    return fd;
}

void fsync_or_throw(int fd, const std::string &path)
{
    if (::fsync(fd))
        test::throw_errno("fsync " + path);
}

class FileWorkload {
public:
    explicit FileWorkload(const FileOptions &options)
        : options_(options),
          random_(options.seed),
          recorder_(options.log_device, options.seed, 512, 512),
          directory_(open_or_throw(options.directory, O_RDONLY | O_DIRECTORY))
    {
    }

    History run()
    {
        for (std::size_t i = 0; i < options_.files; i++) {
            // Most are new; some grow an older one.
            const bool grow = !sizes_.empty() && random_.percent(30);
            const std::uint64_t number = grow ? random_.below(sizes_.size()) : sizes_.size();
            if (!grow)
                sizes_.push_back(0);
            extend(number);
        }
        return recorder_.history();
    }

private:
    void extend(std::uint64_t number)
    {
        const std::string path = options_.directory + "/" + guest_file_name(number);
        const std::uint64_t from = sizes_[number];
        sizes_[number] += random_.log_uniform(1, options_.largest);
        const auto content = guest_file_content(options_.seed, number, sizes_[number]);
        const auto fd = open_or_throw(path, O_WRONLY | O_CREAT);
        const std::size_t length = content.size() - from;
        if (::pwrite(fd.get(), content.data() + from, length, static_cast<off_t>(from)) != static_cast<ssize_t>(length))
            test::throw_errno(fmt::format("write {} bytes at {} of {}", length, from, path));
        if (!random_.percent(options_.fsync_percent))
            return;
        fsync_or_throw(fd.get(), path);
        fsync_or_throw(directory_.get(), options_.directory);
        recorder_.mark_file(number, sizes_[number]);
    }

    const FileOptions &options_;
    test::Random random_;
    Recorder recorder_;
    UniqueFd directory_;
    std::vector<std::uint64_t> sizes_;
};

} // namespace

History run_file_workload(const FileOptions &options)
{
    return FileWorkload(options).run();
}

} // namespace liveblk::crash
