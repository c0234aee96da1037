// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace liveblk::crash {

// The content of file `number` of a run, made of stamped sectors; a shorter file is a prefix of a longer one.
std::vector<std::byte> guest_file_content(std::uint64_t seed, std::uint64_t number, std::uint64_t size);
std::string guest_file_name(std::uint64_t number);

} // namespace liveblk::crash
