#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""bcache-super cache|backing SET-UUID DEVICE: a super block of bcache, as the kernel's bcache_ondisk.h has it."""
import struct
import sys
import uuid

OFFSET = 8  # sectors
VERSION = {"cache": 3, "backing": 4}
BLOCK, BUCKET = 8, 64  # sectors
MAGIC = bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")
POLYNOMIAL = 0x42F0E1EBA9EA3693
MASK = (1 << 64) - 1


def crc64(data):
    """Most significant bit first, inverted before and after."""
    crc = MASK
    for byte in data:
        crc ^= byte << 56
        for _ in range(8):
            crc = ((crc << 1) ^ (POLYNOMIAL if crc >> 63 else 0)) & MASK
    return crc ^ MASK


def super_block(kind, set_uuid, size):
    body = struct.pack("<QQ16s16s16s32sQQ", OFFSET, VERSION[kind], MAGIC, uuid.uuid4().bytes, set_uuid, b"", 0, 0)
    body += bytes(8 * 8)
    if kind == "cache":
        body += struct.pack("<QHHHH", size // (BUCKET * 512), BLOCK, BUCKET, 1, 0)
    else:
        body += struct.pack("<QHHHH", 16, BLOCK, BUCKET, 0, 0)
    body += struct.pack("<IHH", 0, 1 + 16 // BUCKET, 0)
    return struct.pack("<Q", crc64(body)) + body


def main():
    kind, set_uuid, device = sys.argv[1:]
    with open(device, "r+b") as disk:
        size = disk.seek(0, 2)
        disk.seek(OFFSET * 512)
        disk.write(super_block(kind, uuid.UUID(set_uuid).bytes, size).ljust(4096, b"\0"))


main()
