// SPDX-License-Identifier: GPL-2.0-only
// copy-powers DEVICE: what a process without privileges can do with descriptors that it was given. Started as root, it
// opens the device in several ways, becomes nobody, and tries every pair as source and destination.
#include "base/error.hpp"
#include "copier.hpp"

#include <blk-copy.h>
#include <loop-copy.h>

#include <fcntl.h>
#include <grp.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

using namespace liveblk;
using liveblk::copy::Copier;
using liveblk::copy::Emulate;
using liveblk::copy::Outcome;

namespace {

constexpr std::uint64_t length = 65536;
constexpr unsigned nobody = 65534;

struct Given {
    std::string name;
    UniqueFd fd;
    bool readable;
    bool writable;
    int error; // what a descriptor of this kind is refused with
};

UniqueFd open_or_fail(const std::string &path, int flags)
{
    UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
    if (!fd)
        fail_errno(fmt::format("open '{}'", path));
    return fd;
}

std::vector<Given> open_all(const std::string &device)
{
    std::vector<Given> all;
    all.push_back({"read-only", open_or_fail(device, O_RDONLY), true, false, EBADF});
    all.push_back({"write-only", open_or_fail(device, O_WRONLY), false, true, EBADF});
    all.push_back({"read-write", open_or_fail(device, O_RDWR), true, true, EBADF});
    all.push_back({"path", open_or_fail(device, O_PATH), false, false, EBADF});
    all.push_back({"file", open_or_fail("/etc/passwd", O_RDONLY), false, false, ENOTBLK});
    all.push_back({"none", UniqueFd(), false, false, EBADF});
    return all;
}

void become_nobody()
{
    if (::setgroups(0, nullptr) != 0 || ::setresgid(nobody, nobody, nobody) != 0 ||
        ::setresuid(nobody, nobody, nobody) != 0)
        fail_errno("become nobody");
}

// The source is looked at first.
int expected(const Given &src, const Given &dst)
{
    if (!src.readable)
        return src.error;
    return dst.writable ? 0 : dst.error;
}

unsigned try_all(const Copier &copier, const std::vector<Given> &all)
{
    unsigned done = 0;
    for (const Given &src : all) {
        for (const Given &dst : all) {
            const Outcome got = copier.copy(src.fd.get(), 0, dst.fd.get(), length, length, Emulate::automatic);
            const int wanted = expected(src, dst);
            if (got.error != wanted || got.done != (wanted ? 0 : length))
                fail("copy from {} to {}: error {} and {} bytes, and not error {}", src.name, dst.name, got.error,
                     got.done, wanted);
            done += !wanted;
        }
    }
    return done;
}

void must_be_denied(const std::string &path)
{
    const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (fd || errno != EACCES)
        fail("open '{}' as nobody: it was not denied", path);
}

// Whoever may only append must not be able to write over what is there.
void must_not_append(const UniqueFd &control)
{
    const std::string path = "/run/append.img";
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    if (!file || ::ftruncate(file.get(), length) != 0)
        fail_errno(fmt::format("create '{}'", path));
    loop_copy_attach attach = {};
    attach.fd = file.get();
    if (::ioctl(control.get(), LOOP_COPY_ATTACH, &attach) == 0 || errno != EPERM)
        fail("attach a file that is open for appending: it was not refused");
    attach.flags = LOOP_COPY_READ_ONLY;
    if (::ioctl(control.get(), LOOP_COPY_ATTACH, &attach) != 0)
        fail_errno("attach the same, read-only");
    loop_copy_disk disk = {};
    disk.number = attach.number;
    if (::ioctl(control.get(), LOOP_COPY_DETACH, &disk) != 0)
        fail_errno("detach it");
}

// A descriptor of the control device alone gives no power.
void must_need_power(const UniqueFd &control)
{
    loop_copy_attach attach = {};
    attach.fd = 0;
    if (::ioctl(control.get(), LOOP_COPY_ATTACH, &attach) == 0 || errno != EPERM)
        fail("attach a file as nobody: it was not refused");
    loop_copy_disk disk = {};
    if (::ioctl(control.get(), LOOP_COPY_DETACH, &disk) == 0 || errno != EPERM)
        fail("detach a disk as nobody: it was not refused");
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2) {
        std::fprintf(stderr, "usage: copy-powers DEVICE\n");
        return 2;
    }
    try {
        const std::vector<Given> all = open_all(argv[1]);
        const UniqueFd control = open_or_fail(LOOP_COPY_DEVICE, O_RDWR);
        must_not_append(control);
        become_nobody();
        must_be_denied(argv[1]);
        must_be_denied(LOOP_COPY_DEVICE);
        must_need_power(control);
        // Opened as nobody: it is there for everybody.
        const Copier copier;
        fmt::print("{} pairs of descriptors, {} of them could copy\n", all.size() * all.size(), try_all(copier, all));
        return 0;
    } catch (const std::exception &e) {
        std::fprintf(stderr, "copy-powers: %s\n", e.what());
        return 1;
    }
}
