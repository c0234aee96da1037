/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The control device of blk-interposer, /dev/blk-interposer.
 *
 * A pair of disks stands for an original, a block device that bios are taken
 * from. Device-mapper targets open the lower disk, which leads to the original;
 * once a target is attached, what is sent to the original goes to the target.
 *
 * Every call needs CAP_SYS_ADMIN. All structures are for 32 and 64 bits alike.
 * Fields called "reserved" and unknown flags have to be zero: EINVAL otherwise.
 */
#ifndef _UAPI_LINUX_BLK_INTERPOSER_H
#define _UAPI_LINUX_BLK_INTERPOSER_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define BLK_INTERPOSER_DEVICE	"/dev/blk-interposer"
#define BLK_INTERPOSER_VERSION	1
#define BLK_INTERPOSER_NAME_LEN	32

/* What a call was doing when it failed. Whatever came before was undone. */
enum blk_interposer_step {
	BLK_INTERPOSER_STEP_NONE = 0,
	BLK_INTERPOSER_STEP_CHECK = 1,		/* is it possible at all? */
	BLK_INTERPOSER_STEP_DISKS = 2,		/* making the two disks */
	BLK_INTERPOSER_STEP_HOOK = 3,		/* redirecting bios */
	BLK_INTERPOSER_STEP_SETTLE = 4,		/* bios from before the hook */
	BLK_INTERPOSER_STEP_FREEZE = 5,		/* freezing file systems */
	BLK_INTERPOSER_STEP_DRAIN = 6,		/* redirected bios in flight */
	BLK_INTERPOSER_STEP_QUEUE = 7,		/* I/O in flight in the original */
	BLK_INTERPOSER_STEP_TRIAL = 8,		/* a first write through the target */
};

/* Why. With NONE the error number says it all. */
enum blk_interposer_reason {
	BLK_INTERPOSER_OK = 0,
	BLK_INTERPOSER_OWN_DISK = 1,		/* it is one of our own disks */
	BLK_INTERPOSER_INTEGRITY = 2,		/* it carries integrity data */
	BLK_INTERPOSER_ENCRYPTION = 3,		/* it encrypts inline */
	BLK_INTERPOSER_EXISTS = 4,		/* it has a pair, or overlaps one */
	BLK_INTERPOSER_REMOVED = 5,		/* it is being removed */
	BLK_INTERPOSER_FROZEN = 6,		/* its file system is frozen already */
	BLK_INTERPOSER_ATTACHED = 7,		/* a target is attached */
	BLK_INTERPOSER_NOT_ATTACHED = 8,	/* no target is attached */
	BLK_INTERPOSER_SIZE = 9,		/* the target has another size */
	BLK_INTERPOSER_BLOCK_SIZE = 10,		/* the target's blocks are larger */
	BLK_INTERPOSER_NO_FLUSH = 11,		/* the target passes no flushes */
	BLK_INTERPOSER_READ_ONLY = 12,		/* the target is read-only */
	BLK_INTERPOSER_ZONES = 13,		/* the target is zoned otherwise */
	BLK_INTERPOSER_LOOP = 14,		/* the target is on the original */
	BLK_INTERPOSER_UNUSED_LOWER = 15,	/* nothing is on the lower disk */
	BLK_INTERPOSER_NO_IOSTATS = 16,		/* its I/O in flight cannot be seen */
	BLK_INTERPOSER_BUSY = 17,		/* somebody has the lower disk open */
	BLK_INTERPOSER_HIDDEN = 18,		/* it is a hidden disk */
	BLK_INTERPOSER_LEAVING = 19,		/* it has not completed what was redirected */
	BLK_INTERPOSER_STUCK = 20,		/* the target does not complete a write */
	BLK_INTERPOSER_UNSEEN = 21,		/* the hook does not see its I/O */
	BLK_INTERPOSER_REQUESTS = 22,		/* a driver above sends it requests, not bios */
	BLK_INTERPOSER_DAX = 23,		/* it can be accessed directly */
	BLK_INTERPOSER_ALIGNMENT = 24,		/* the target needs better aligned buffers */
	BLK_INTERPOSER_STABLE_WRITES = 25,	/* the target needs data that stay as they are */
};

struct blk_interposer_error {
	__u32 step;				/* enum blk_interposer_step */
	__u32 reason;				/* enum blk_interposer_reason */
};

/* Make a pair of disks. */
struct blk_interposer_create {
	__s32 fd;				/* in: the original, open for reading */
	__u32 flags;				/* in: BLK_INTERPOSER_OWNED */
	__u32 id;				/* out: the pair */
	__u32 reserved;
	__u64 lower;				/* out: major << 32 | minor */
	char lower_name[BLK_INTERPOSER_NAME_LEN]; /* out: as in /dev */
	struct blk_interposer_error error;	/* out */
};

/*
 * The pair lives no longer than the descriptor that it was made with, or that
 * something was detached with: the last close detaches what is attached, without
 * freezing, and takes the disks away.
 */
#define BLK_INTERPOSER_OWNED	(1u << 0)

/* From here on it does live longer: for programs that are done when it is attached. */
#define BLK_INTERPOSER_KEEP	(1u << 3)

/* Put a target between. The times are out. */
struct blk_interposer_attach {
	__u32 id;
	__s32 fd;				/* the target, open for reading */
	__u32 flags;				/* BLK_INTERPOSER_NO_FREEZE, _KEEP */
	__u32 timeout_ms;			/* for each wait; 0: 30 seconds */
	__u64 filesystems;			/* address of __s32 descriptors, see below */
	__u32 nr_filesystems;			/* BLK_INTERPOSER_MAX_FILESYSTEMS at most */
	__u32 reserved;
	__u64 parked_ns;			/* I/O was held back this long */
	__u64 frozen_ns;			/* file systems were; 0: there was none */
	struct blk_interposer_error error;
};

/* Take it out again. */
struct blk_interposer_detach {
	__u32 id;
	__u32 flags;				/* BLK_INTERPOSER_NO_FREEZE, _OWNED */
	__u32 timeout_ms;
	__u32 reserved;
	__u64 filesystems;
	__u32 nr_filesystems;
	__u32 reserved2;
	__u64 parked_ns;
	__u64 frozen_ns;
	struct blk_interposer_error error;
};

/*
 * A file system is found by its block device and frozen. One that cannot be found
 * so, as btrfs, is named by a descriptor of any file in it.
 */
#define BLK_INTERPOSER_MAX_FILESYSTEMS	64

/* Leave file systems alone: they are frozen already, or need not be. */
#define BLK_INTERPOSER_NO_FREEZE	(1u << 1)

/* Take the disks away; nothing may be attached, and the lower disk not open. */
struct blk_interposer_destroy {
	__u32 id;
	__u32 reserved;
	struct blk_interposer_error error;
};

/* State of a pair. */
struct blk_interposer_status {
	__u32 id;				/* in, out */
	__u32 flags;				/* in: ..._NEXT; out: ..._OWNED */
	__u32 state;				/* enum blk_interposer_state */
	__u32 warnings;				/* BLK_INTERPOSER_WARN_* */
	__u64 original;				/* major << 32 | minor */
	__u64 lower;
	__u64 target;				/* 0: none */
	__u64 sectors;				/* of 512 bytes */
	__u64 redirected;			/* bios since the pair was made */
	__u64 parked;				/* of these, held back in a transition */
	__u64 again;				/* of these, failed with EAGAIN */
	__u64 bypassed;				/* writes to the disk in the original's range */
	char original_name[BLK_INTERPOSER_NAME_LEN];
	char lower_name[BLK_INTERPOSER_NAME_LEN];
	char target_name[BLK_INTERPOSER_NAME_LEN];
};

/* Not the pair with that id, but the first with a greater one: ENXIO at the end. */
#define BLK_INTERPOSER_NEXT	(1u << 2)

enum blk_interposer_state {
	BLK_INTERPOSER_IDLE = 0,
	BLK_INTERPOSER_ACTIVE = 1,
	BLK_INTERPOSER_IN_TRANSITION = 2,
};

/* The original is gone, its size has changed, or it has ways around the block layer. */
#define BLK_INTERPOSER_WARN_REMOVED	(1u << 0)
#define BLK_INTERPOSER_WARN_RESIZED	(1u << 1)
#define BLK_INTERPOSER_WARN_DAX		(1u << 2)
#define BLK_INTERPOSER_WARN_PAGES	(1u << 3)

#define BLK_INTERPOSER_IOC	0xb7
#define BLK_INTERPOSER_GET_VERSION	_IOR(BLK_INTERPOSER_IOC, 0, __u32)
#define BLK_INTERPOSER_CREATE	_IOWR(BLK_INTERPOSER_IOC, 1, struct blk_interposer_create)
#define BLK_INTERPOSER_ATTACH	_IOWR(BLK_INTERPOSER_IOC, 2, struct blk_interposer_attach)
#define BLK_INTERPOSER_DETACH	_IOWR(BLK_INTERPOSER_IOC, 3, struct blk_interposer_detach)
#define BLK_INTERPOSER_DESTROY	_IOWR(BLK_INTERPOSER_IOC, 4, struct blk_interposer_destroy)
#define BLK_INTERPOSER_STATUS	_IOWR(BLK_INTERPOSER_IOC, 5, struct blk_interposer_status)

#endif
