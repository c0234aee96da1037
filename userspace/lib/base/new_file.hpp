// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "base/unique_fd.hpp"

#include <sys/stat.h>

#include <string>

namespace liveblk {

// A regular file that was not there before, open for reading and writing. It is taken away again unless it is kept:
// that, and not another one which has its name by then.
class NewFile {
public:
    // Throws if there is anything of that name. Nobody but the caller may open it yet.
    explicit NewFile(const std::string &path);
    NewFile(const NewFile &) = delete;
    NewFile &operator=(const NewFile &) = delete;
    ~NewFile();

    int fd() const { return fd_.get(); }
    // Absolute, no links in it.
    const std::string &path() const { return path_; }
    // Absolute, of the directory that it is in, the same.
    std::string folder() const;

    // Those who may read and write another file may do so with this one.
    void share_like(const struct stat &other) const;
    // Its name and what was written to it are durable when this returns.
    void settle() const;
    void keep() { kept_ = true; }
    // Takes it away at once.
    void remove() const noexcept;

private:
    bool has_its_name() const;

    UniqueFd folder_;
    std::string name_; // in that
    UniqueFd fd_;
    std::string path_;
    bool kept_ = false;
};

} // namespace liveblk
