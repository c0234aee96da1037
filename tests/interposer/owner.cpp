// SPDX-License-Identifier: GPL-2.0-only
// interposer-owner DEVICE NAME: makes a pair that this process owns, puts dm-linear NAME on it, attaches it, and waits
// to be killed. interposer-owner --detach DEVICE MILLISECONDS: detaches with that time limit; the tool has a longer
// one. interposer-owner --adopt DEVICE NAME: waits until the module has failed to detach the suspended dm device NAME
// for an owner that is gone; resumes it, and before the next attempt detaches it and attaches it, to be kept.
// interposer-owner --end DEVICE NAME: the same, but detaches it and removes it and the pair.
#include "base/error.hpp"
#include "dm/device.hpp"
#include "open_or_fail.hpp"

#include <blk-interposer.h>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

using namespace liveblk;

namespace {

void own(const UniqueFd &control, const std::string &device, const std::string &name)
{
    const UniqueFd original = open_or_fail(device, O_RDONLY);
    std::uint64_t bytes = 0;
    if (::ioctl(original.get(), BLKGETSIZE64, &bytes) != 0)
        fail_errno("get the size");
    blk_interposer_create create = {};
    create.fd = original.get();
    create.flags = BLK_INTERPOSER_OWNED;
    if (::ioctl(control.get(), BLK_INTERPOSER_CREATE, &create) != 0)
        fail_errno("create");
    const dm::Device target = dm::Device::create(
        name,
        {.start = 0, .length = bytes / 512, .type = "linear", .params = fmt::format("/dev/{} 0", create.lower_name)},
        false);
    const UniqueFd top = open_or_fail(target.path(), O_RDONLY);
    blk_interposer_attach attach = {};
    attach.id = create.id;
    attach.fd = top.get();
    if (::ioctl(control.get(), BLK_INTERPOSER_ATTACH, &attach) != 0)
        fail_errno("attach");
    for (;;)
        ::pause();
}

blk_interposer_status find(const UniqueFd &control, const std::string &device)
{
    blk_interposer_status status = {};
    do {
        status.flags = BLK_INTERPOSER_NEXT;
        if (::ioctl(control.get(), BLK_INTERPOSER_STATUS, &status) != 0)
            fail("find the pair of '{}'", device);
    } while (fmt::format("/dev/{}", status.original_name) != device);
    return status;
}

dm::Device target_named(const std::string &name)
{
    const auto found = dm::Device::find(name);
    if (!found)
        fail("find '{}'", name);
    return *found;
}

std::uint32_t await_failed_detach(const UniqueFd &control, const std::string &device, const std::string &name)
{
    const dm::Device target = target_named(name);
    dm::UdevWork udev;
    for (const std::uint32_t state : {BLK_INTERPOSER_IN_TRANSITION, BLK_INTERPOSER_ACTIVE})
        while (find(control, device).state != state)
            ::usleep(10000);
    if (const int error = target.try_resume(udev))
        fail_errno(fmt::format("resume '{}'", name), error);
    return find(control, device).id;
}

void detach(const UniqueFd &control, std::uint32_t id, unsigned milliseconds)
{
    blk_interposer_detach call = {};
    call.id = id;
    call.timeout_ms = milliseconds;
    call.flags = BLK_INTERPOSER_NO_FREEZE;
    if (::ioctl(control.get(), BLK_INTERPOSER_DETACH, &call) == 0)
        return;
    fail_errno(call.error.step == BLK_INTERPOSER_STEP_DRAIN ? "wait for redirected I/O" : "detach");
}

void adopt(const UniqueFd &control, const std::string &device, const std::string &name)
{
    const UniqueFd top = open_or_fail("/dev/mapper/" + name, O_RDONLY);
    const std::uint32_t id = await_failed_detach(control, device, name);
    detach(control, id, 1000);
    blk_interposer_attach attach = {};
    attach.id = id;
    attach.fd = top.get();
    attach.flags = BLK_INTERPOSER_KEEP;
    if (::ioctl(control.get(), BLK_INTERPOSER_ATTACH, &attach) != 0)
        fail_errno("attach");
}

void end(const UniqueFd &control, const std::string &device, const std::string &name)
{
    blk_interposer_destroy destroy = {};
    destroy.id = await_failed_detach(control, device, name);
    detach(control, destroy.id, 1000);
    target_named(name).remove();
    if (::ioctl(control.get(), BLK_INTERPOSER_DESTROY, &destroy) != 0)
        fail_errno("destroy");
}

} // namespace

int main(int argc, char **argv)
{
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    try {
        const UniqueFd control = open_or_fail(BLK_INTERPOSER_DEVICE, O_RDWR);
        if (arguments.size() == 3 && arguments[0] == "--detach")
            detach(control, find(control, arguments[1]).id, static_cast<unsigned>(std::stoul(arguments[2])));
        else if (arguments.size() == 3 && arguments[0] == "--adopt")
            adopt(control, arguments[1], arguments[2]);
        else if (arguments.size() == 3 && arguments[0] == "--end")
            end(control, arguments[1], arguments[2]);
        else if (arguments.size() == 2)
            own(control, arguments[0], arguments[1]);
        else
            fail("usage: interposer-owner DEVICE NAME | --detach DEVICE MILLISECONDS | --adopt|--end DEVICE NAME");
        return 0;
    } catch (const std::exception &e) {
        std::fprintf(stderr, "interposer-owner: %s\n", e.what());
        return 1;
    }
}
