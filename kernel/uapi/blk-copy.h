/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The interface of blk-copy: /dev/blk-copy, whose ioctls copy ranges of block
 * devices. See Documentation/blk-copy.rst.
 */
#ifndef LIVEBLK_UAPI_BLK_COPY_H
#define LIVEBLK_UAPI_BLK_COPY_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define BLK_COPY_DEVICE		"/dev/blk-copy"

/* What BLK_COPY_GET_VERSION gives. */
#define BLK_COPY_VERSION	1

/* Ranges of one call. */
#define BLK_COPY_MAX_RANGES	1024

/*
 * Read and write where nothing can copy without that. Without this flag such
 * a range fails with EOPNOTSUPP.
 */
#define BLK_COPY_EMULATE	(1u << 0)
/* Only together with BLK_COPY_EMULATE: read and write everything. */
#define BLK_COPY_NO_OFFLOAD	(1u << 1)

#define BLK_COPY_FLAGS		(BLK_COPY_EMULATE | BLK_COPY_NO_OFFLOAD)

/**
 * struct blk_copy_range - one range; offsets and lengths are bytes
 * @src: where it is on the source; multiple of the source's logical block
 * @dst: where it goes on the destination; multiple of its logical block
 * @len: how much; multiple of both logical blocks, not 0
 * @done: set: the bytes, from the beginning of the range on, that are copied
 */
struct blk_copy_range {
	__u64 src;
	__u64 dst;
	__u64 len;
	__u64 done;
};

/**
 * struct blk_copy_call - argument of BLK_COPY_RANGES
 * @src_fd: a block device, open for reading
 * @dst_fd: a block device, open for writing; may be the same
 * @flags: BLK_COPY_EMULATE, BLK_COPY_NO_OFFLOAD
 * @nr_ranges: 1 to BLK_COPY_MAX_RANGES
 * @ranges: address of so many struct blk_copy_range; done in this order
 * @done: set: sum of what was done of each
 * @offloaded: set: how much of it did not pass through the host's memory as
 *	reads and writes of blk-copy
 * @reserved: 0
 *
 * The call fails at the first range that fails, with that one's error; @done,
 * @offloaded and the ranges say what was done before.
 */
struct blk_copy_call {
	__s32 src_fd;
	__s32 dst_fd;
	__u32 flags;
	__u32 nr_ranges;
	__u64 ranges;
	__u64 done;
	__u64 offloaded;
	__u64 reserved;
};

/**
 * struct blk_copy_info - argument of BLK_COPY_GET_INFO
 * @fd: a block device, open in any way
 * @granularity: set: bytes that ranges for offload are multiples of
 * @max_bytes: set: most of one piece of an offloaded range; 0: no offload
 * @optimal: set: ranges that are multiples of so many bytes, at such offsets,
 *	are copied best; 0 if there is no offload
 * @provider: set: name of the driver that copies; empty: none
 * @reserved: 0
 */
struct blk_copy_info {
	__s32 fd;
	__u32 granularity;
	__u64 max_bytes;
	__u64 optimal;
	char provider[32];
	__u64 reserved;
};

#define BLK_COPY_IOC		0xb8
#define BLK_COPY_GET_VERSION	_IOR(BLK_COPY_IOC, 0, __u32)
#define BLK_COPY_RANGES		_IOWR(BLK_COPY_IOC, 1, struct blk_copy_call)
#define BLK_COPY_GET_INFO	_IOWR(BLK_COPY_IOC, 2, struct blk_copy_info)

#endif
