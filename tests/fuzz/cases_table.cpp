// SPDX-License-Identifier: GPL-2.0-only
// Table lines that a caller must not get away with. %i stands for a good image, %d for the
// directory that it lies in.
#include "cases.hpp"

namespace hostile {

namespace {

void add_params(Catalogue &catalogue, const std::string &name, Expect expect, const std::string &params)
{
    Case &c = catalogue.add("table-" + name, expect, "", v3, [](Image &) {});
    c.params = params;
    c.no_image = expect != Expect::ok;
}

} // namespace

void add_table_cases(Catalogue &catalogue)
{
    const auto refused = [&](const std::string &name, const std::string &params) {
        add_params(catalogue, name, Expect::refuse, params);
    };
    refused("image-missing", "%d/no-such-image");
    refused("image-is-a-directory", "%d");
    refused("image-is-a-character-device", "/dev/zero");
    refused("image-is-a-fifo", "%d/fifo");
    refused("image-is-a-fifo-read-only", "%d/fifo 1 read_only");
    refused("image-is-a-dangling-link", "%d/dangling");
    refused("image-is-a-link-loop", "%d/loop");
    refused("image-is-in-proc", "/proc/kmsg");
    refused("image-path-is-relative", "image.qcow2");
    refused("image-path-of-4000", "/" + std::string(4000, 'x'));
    refused("fd-negative", "fd:-1");
    refused("fd-not-open", "fd:99999");
    refused("fd-huge", "fd:99999999999999999999");
    refused("fd-no-number", "fd:abc");
    refused("fd-empty", "fd:");
    refused("fd-with-tail", "fd:0x");
    refused("no-parameters", " ");
    refused("argument-unknown", "%i 1 make_it_fast");
    refused("argument-count-too-large", "%i 2 read_only");
    refused("argument-count-too-small", "%i 1 read_only no_lock");
    refused("argument-count-negative", "%i -1 read_only");
    refused("argument-count-huge", "%i 65 read_only");
    refused("argument-count-no-number", "%i x");
    refused("cache-without-value", "%i 1 cache_kib");
    refused("cache-no-number", "%i 2 cache_kib lots");
    refused("cache-negative", "%i 2 cache_kib -5");
    refused("cache-overflow", "%i 2 cache_kib 99999999999999999999");
    add_params(catalogue, "no-arguments", Expect::ok, "%i 0");
    add_params(catalogue, "cache-given", Expect::ok, "%i 2 cache_kib 4096");
    add_params(catalogue, "lock-off", Expect::ok, "%i 1 no_lock");
    add_params(catalogue, "cache-0", Expect::refuse_or_io, "%i 2 cache_kib 0");
    add_params(catalogue, "cache-1", Expect::refuse_or_io, "%i 2 cache_kib 1");
    add_params(catalogue, "cache-4-gib-and-1", Expect::refuse_or_io, "%i 2 cache_kib 4294967297");
}

} // namespace hostile
