// SPDX-License-Identifier: GPL-2.0-only
// A small layer over libdevmapper. It keeps one state of its own, the last line that libdevmapper logged, so it is for
// one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace liveblk::dm {

// One line of a table, or of a status.
struct Target {
    std::uint64_t start = 0;  // sectors of 512 bytes
    std::uint64_t length = 0; // the same
    std::string type;
    std::string params; // as the kernel has it, with its backslashes
};

struct Info {
    bool suspended = false;
    bool live_table = false;
    bool inactive_table = false;
    bool read_only = false;
    int open_count = 0;
};

// Which names of a device's content, as /dev/disk/by-uuid, udev may give to it.
enum class Names {
    all,
    if_no_other, // another device with the same content goes first
    none,
};

// What udev still has to do about a device; waited for at the end of its life.
class UdevWork {
public:
    explicit UdevWork(std::uint32_t cookie = 0) : cookie_(cookie) {}
    UdevWork(UdevWork &&other) noexcept;
    UdevWork &operator=(UdevWork &&other) noexcept;
    UdevWork(const UdevWork &) = delete;
    UdevWork &operator=(const UdevWork &) = delete;
    ~UdevWork();

private:
    std::uint32_t cookie_;
};

// A device that was there when it was looked for. Every call throws Error with what was attempted and why it failed.
class Device {
public:
    // NAME, /dev/mapper/NAME, or the path of any block device node; nothing if that is no device-mapper device, or if
    // the caller may not ask.
    static std::optional<Device> find(const std::string &name_or_path);
    static std::vector<Device> all();
    // Creates it with one target and makes it live. The parameters may have no character that needs a backslash:
    // libdevmapper doubles those.
    static Device create(const std::string &name, const Target &target, bool read_only, Names names = Names::all);

    const std::string &name() const { return name_; }
    unsigned major() const { return major_; }
    unsigned minor() const { return minor_; }
    // "/dev/mapper/NAME"
    std::string path() const;

    Info info() const;
    std::vector<Target> table() const;
    std::vector<Target> inactive_table() const;
    std::vector<Target> status() const;

    void message(const std::string &text) const;
    // Freezes the file system on it and waits for all I/O. Throws Interrupted if a signal came first.
    void suspend() const;
    // Makes the inactive table live if there is one. Returns 0 or the error number.
    int try_resume(UdevWork &work) const noexcept;
    // The same, in place of an inactive table that is there already. No backslashes either.
    void load(const Target &target, bool read_only) const;
    void clear() const;
    void remove() const;

private:
    Device(std::string name, unsigned major, unsigned minor) : name_(std::move(name)), major_(major), minor_(minor) {}
    std::vector<Target> read_targets(int type, bool inactive) const;

    std::string name_;
    unsigned major_;
    unsigned minor_;
};

// Whether the kernel knows a target of this type by now.
bool has_target(const std::string &type);

} // namespace liveblk::dm
