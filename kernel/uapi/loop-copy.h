/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The control device of loop-copy, which attaches files as disks loopc0,
 * loopc1 and so on. See Documentation/loop-copy.rst.
 *
 * Every call but LOOP_COPY_GET_VERSION needs CAP_SYS_ADMIN.
 */
#ifndef LIVEBLK_UAPI_LOOP_COPY_H
#define LIVEBLK_UAPI_LOOP_COPY_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define LOOP_COPY_DEVICE	"/dev/loop-copy"

/* What LOOP_COPY_GET_VERSION gives. */
#define LOOP_COPY_VERSION	1

/* The disk cannot be written. */
#define LOOP_COPY_READ_ONLY	(1u << 0)
/*
 * The disk goes away when it is closed for the last time, once it has been
 * opened for writing or exclusively (O_EXCL, a mount).
 */
#define LOOP_COPY_AUTOCLEAR	(1u << 1)
/* Partitions are looked for. */
#define LOOP_COPY_PARTSCAN	(1u << 2)
/* Through the page cache of the file, even where direct I/O is possible. */
#define LOOP_COPY_BUFFERED	(1u << 3)

#define LOOP_COPY_FLAGS		(LOOP_COPY_READ_ONLY | LOOP_COPY_AUTOCLEAR | \
				 LOOP_COPY_PARTSCAN | LOOP_COPY_BUFFERED)

/**
 * struct loop_copy_attach - argument of LOOP_COPY_ATTACH
 * @fd: a regular file, open for reading, and for writing without
 *	LOOP_COPY_READ_ONLY
 * @flags: LOOP_COPY_*
 * @block_size: of the disk; 0: the smallest that direct I/O on the file allows
 * @number: set: n of loopcn
 */
struct loop_copy_attach {
	__s32 fd;
	__u32 flags;
	__u32 block_size;
	__u32 number;
};

/**
 * struct loop_copy_disk - argument of LOOP_COPY_DETACH and LOOP_COPY_RESIZE
 * @number: n of loopcn
 * @reserved: 0
 */
struct loop_copy_disk {
	__u32 number;
	__u32 reserved;
};

#define LOOP_COPY_IOC		0xb9
#define LOOP_COPY_GET_VERSION	_IOR(LOOP_COPY_IOC, 0, __u32)
#define LOOP_COPY_ATTACH	_IOWR(LOOP_COPY_IOC, 1, struct loop_copy_attach)
/* Fails with EBUSY while the disk is open. */
#define LOOP_COPY_DETACH	_IOW(LOOP_COPY_IOC, 2, struct loop_copy_disk)
/* Gives the disk the size that the file has now. */
#define LOOP_COPY_RESIZE	_IOW(LOOP_COPY_IOC, 3, struct loop_copy_disk)

#endif
