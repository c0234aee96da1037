// SPDX-License-Identifier: GPL-2.0-only
#include "control.hpp"

#include "base/error.hpp"
#include "base/kernel_module.hpp"
#include "dm/sysfs.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <utility>

namespace liveblk::interpose {
namespace {

const char *step_text(std::uint32_t step)
{
    switch (step) {
    case BLK_INTERPOSER_STEP_CHECK:
        return "check whether it can be done";
    case BLK_INTERPOSER_STEP_DISKS:
        return "make the disks";
    case BLK_INTERPOSER_STEP_HOOK:
        return "begin to redirect I/O";
    case BLK_INTERPOSER_STEP_SETTLE:
        return "wait for I/O that had begun before";
    case BLK_INTERPOSER_STEP_FREEZE:
        return "freeze the file system";
    case BLK_INTERPOSER_STEP_DRAIN:
        return "wait for redirected I/O";
    case BLK_INTERPOSER_STEP_QUEUE:
        return "wait for the original's I/O";
    case BLK_INTERPOSER_STEP_TRIAL:
        return "try a write through the target";
    default:
        return nullptr;
    }
}

const char *reason_text(std::uint32_t reason)
{
    switch (reason) {
    case BLK_INTERPOSER_OWN_DISK:
        return "it is a disk of blk-interposer itself";
    case BLK_INTERPOSER_INTEGRITY:
        return "the original carries integrity data, which would be lost";
    case BLK_INTERPOSER_ENCRYPTION:
        return "the original encrypts inline, and a target would see plain data";
    case BLK_INTERPOSER_EXISTS:
        return "the original, or a part or the whole of its disk, is interposed already";
    case BLK_INTERPOSER_REMOVED:
        return "the device is being removed";
    case BLK_INTERPOSER_FROZEN:
        return "the file system is frozen already";
    case BLK_INTERPOSER_ATTACHED:
        return "a target is attached";
    case BLK_INTERPOSER_NOT_ATTACHED:
        return "no target is attached";
    case BLK_INTERPOSER_SIZE:
        return "the target has another size than the original";
    case BLK_INTERPOSER_BLOCK_SIZE:
        return "the target has larger logical blocks than the original";
    case BLK_INTERPOSER_NO_FLUSH:
        return "the original has a write cache, and the target passes no flushes";
    case BLK_INTERPOSER_READ_ONLY:
        return "the target is read-only";
    case BLK_INTERPOSER_ZONES:
        return "the target has other zones than the original";
    case BLK_INTERPOSER_LOOP:
        return "the target is on the original itself, not on the lower disk";
    case BLK_INTERPOSER_UNUSED_LOWER:
        return "the target is not on the lower disk";
    case BLK_INTERPOSER_NO_IOSTATS:
        return "the original's driver does not count its I/O in flight (is queue/iostats 0?)";
    case BLK_INTERPOSER_BUSY:
        return "the lower disk is open";
    case BLK_INTERPOSER_LEAVING:
        return "it has not completed yet what was redirected before";
    case BLK_INTERPOSER_STUCK:
        return "the target did not complete it in time while the original's I/O was held back; is something that the "
               "target needs on the original?";
    case BLK_INTERPOSER_UNSEEN:
        return "what is sent to the original does not come to the hook; the kernel's log says more";
    case BLK_INTERPOSER_REQUESTS:
        return "a driver above the original, as multipath, sends it requests, which would go past the target";
    case BLK_INTERPOSER_DAX:
        return "the original can be accessed directly (DAX), which would go past the target";
    case BLK_INTERPOSER_ALIGNMENT:
        return "the target needs buffers that are aligned better than the original asks for";
    case BLK_INTERPOSER_STABLE_WRITES:
        return "the target needs data that do not change while they are written, and the original does not";
    case BLK_INTERPOSER_HIDDEN:
        return "the original is a hidden disk";
    default:
        return nullptr;
    }
}

[[noreturn]] void fail_call(const std::string &what, const blk_interposer_error &error, int number)
{
    std::string text = what;
    if (const char *step = step_text(error.step))
        text += fmt::format(": {}", step);
    if (const char *reason = reason_text(error.reason))
        fail("{}: {}", text, reason);
    fail_errno(text, number);
}

std::vector<__s32> numbers_of(const std::vector<UniqueFd> &files)
{
    std::vector<__s32> numbers;
    for (const UniqueFd &file : files)
        numbers.push_back(file.get());
    return numbers;
}

} // namespace

UniqueFd open_device(const std::string &path)
{
    stack::device_number(path);
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd)
        fail_errno(fmt::format("open '{}'", path));
    return fd;
}

Control::Control()
{
    fd_ = open_module_device(BLK_INTERPOSER_DEVICE, "blk-interposer");
    std::uint32_t version = 0;
    if (::ioctl(fd_.get(), BLK_INTERPOSER_GET_VERSION, &version) != 0)
        fail_errno("ask the kernel module for its version");
    if (version != BLK_INTERPOSER_VERSION)
        fail("use the kernel module: it speaks version {}, this program {}", version, BLK_INTERPOSER_VERSION);
}

Pair Control::create(const std::string &original) const
{
    const UniqueFd fd = open_device(original);
    blk_interposer_create call = {};
    call.fd = fd.get();
    call.flags = BLK_INTERPOSER_OWNED;
    if (::ioctl(fd_.get(), BLK_INTERPOSER_CREATE, &call) != 0)
        fail_call(fmt::format("make disks for '{}'", original), call.error, errno);
    return {.id = call.id, .lower = fmt::format("/dev/{}", call.lower_name)};
}

Times Control::attach(const Pair &pair, const std::string &target, const std::vector<UniqueFd> &filesystems) const
{
    const UniqueFd fd = open_device(target);
    const std::vector<__s32> files = numbers_of(filesystems);
    blk_interposer_attach call = {};
    call.id = pair.id;
    call.fd = fd.get();
    call.flags = BLK_INTERPOSER_KEEP;
    call.filesystems = reinterpret_cast<std::uintptr_t>(files.data());
    call.nr_filesystems = static_cast<__u32>(files.size());
    if (::ioctl(fd_.get(), BLK_INTERPOSER_ATTACH, &call) != 0)
        fail_call(fmt::format("attach '{}'", target), call.error, errno);
    return {.parked = call.parked_ns, .frozen = call.frozen_ns};
}

Times Control::detach(std::uint32_t id, const std::string &target,
                      const std::optional<std::vector<UniqueFd>> &filesystems) const
{
    const std::vector<__s32> files = filesystems ? numbers_of(*filesystems) : std::vector<__s32>();
    blk_interposer_detach call = {};
    call.id = id;
    call.flags = BLK_INTERPOSER_OWNED | (filesystems ? 0U : BLK_INTERPOSER_NO_FREEZE);
    call.filesystems = reinterpret_cast<std::uintptr_t>(files.data());
    call.nr_filesystems = static_cast<__u32>(files.size());
    if (::ioctl(fd_.get(), BLK_INTERPOSER_DETACH, &call) != 0)
        fail_call(fmt::format("detach '{}'", target), call.error, errno);
    return {.parked = call.parked_ns, .frozen = call.frozen_ns};
}

void Control::destroy(const Pair &pair) const
{
    blk_interposer_destroy call = {};
    call.id = pair.id;
    if (::ioctl(fd_.get(), BLK_INTERPOSER_DESTROY, &call) != 0)
        fail_call(fmt::format("remove '{}'", pair.lower), call.error, errno);
}

std::vector<blk_interposer_status> Control::all() const
{
    std::vector<blk_interposer_status> pairs;
    for (std::uint32_t id = 0;; id = pairs.back().id) {
        blk_interposer_status call = {};
        call.id = id;
        call.flags = BLK_INTERPOSER_NEXT;
        if (::ioctl(fd_.get(), BLK_INTERPOSER_STATUS, &call) == 0) {
            pairs.push_back(call);
            continue;
        }
        if (errno == ENXIO)
            return pairs;
        fail_errno("ask for the state of the pairs");
    }
}

} // namespace liveblk::interpose
