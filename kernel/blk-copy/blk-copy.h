/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * blk-copy: the parts and how they fit.
 *
 *   main.c      loading and unloading
 *   charge.c    whose I/O and memory it is that a worker uses
 *   control.c   the device that programs copy with
 *   copy.c      a range: checks, page caches, cutting it into pieces
 *   emulate.c   a piece by reading and writing
 *   range.c     keeps copies that touch the same bytes apart
 *   provider.c  which driver copies for which disk
 *   queue.c     a piece as a request in a driver's queue
 *   sysfs.c     the attributes in copy/ of a disk
 *
 * Lock order, outermost first:
 *
 *   a range (range.c)           for the whole of a request
 *   i_rwsem of the              for a piece; keeps buffered reads and writes
 *   destination's inode         out, whose pages reach beyond their bytes
 *   invalidate_lock of its      for a piece; keeps page faults and readahead
 *   page cache                  from bringing back what is being replaced
 *   whatever a driver takes
 *
 * These two are taken in the order of the block layer's own discard. Nothing is
 * held while a paused driver is waited for: a piece that meets one, or whose own
 * driver is to be paused, ends, and so do those that it was handed on from. Nor
 * is the source read with the locks of the destination when a piece is emulated.
 *
 * A piece that a driver hands on, to a disk below its own, takes none of these: to
 * that disk it is a writer like any other, and who holds nothing yet is the only
 * one who waits for a range.
 *
 * blk_copy_ranges_lock and blk_copy_providers_lock are leaves.
 */
#ifndef BLK_COPY_H
#define BLK_COPY_H

#include <linux/blkdev.h>
#include <linux/list.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>

#include "../compat/copy.h"
#include "api.h"

#undef pr_fmt
#define pr_fmt(fmt) "blk-copy: " fmt

/*
 * How often a waiting caller looks for signals. A wait that signals interrupt is
 * interrupted by io_uring's notifications as well, which are none.
 */
#define BLK_COPY_POLL (HZ / 10)

/* The most that is read and written in one go. */
#define BLK_COPY_BUFFER	SZ_1M

/* The most that is copied before others may use the page cache again. */
#define BLK_COPY_PIECE	SZ_64M

/* How many drivers hand a piece on, at most, each to the next. */
#define BLK_COPY_MAX_DEPTH 4

/**
 * enum blk_copy_state - what becomes of copies
 * @BLK_COPY_IDLE: they are none of this driver's business
 * @BLK_COPY_ACTIVE: it does them
 * @BLK_COPY_PAUSED: they wait
 */
enum blk_copy_state { BLK_COPY_IDLE, BLK_COPY_ACTIVE, BLK_COPY_PAUSED };

/**
 * struct blk_copy_provider - a disk whose driver can copy
 * @node: list of all, under blk_copy_providers_lock
 * @disk: the disk
 * @ops: its driver
 * @limits: of its driver
 * @max_bytes: what the administrator allows, at most @limits.max_bytes
 * @state: under blk_copy_providers_lock; pieces under way are to end when it is
 *	no longer BLK_COPY_ACTIVE
 * @users: pieces under way, and those who look
 * @pieces: pieces under way, without those that go past a detour anyway; before
 *	it is asked for one
 * @offloaded: bytes that the driver has copied
 * @emulated: bytes that were read and written
 * @failed: pieces that ended with an error
 */
struct blk_copy_provider {
	struct list_head node;
	struct gendisk *disk;
	const struct blk_copy_ops *ops;
	struct blk_copy_limits limits;
	u64 max_bytes;
	enum blk_copy_state state;
	atomic_t users;
	atomic_t pieces;
	atomic64_t offloaded;
	atomic64_t emulated;
	atomic64_t failed;
};

/**
 * struct blk_copy_span - the bytes that a request touches, while it does
 * @node: list of all, in the order of their coming
 * @src_disk: source
 * @dst_disk: destination
 * @src: byte offset on the disk
 * @dst: byte offset on the disk
 * @len: bytes
 */
struct blk_copy_span {
	struct list_head node;
	struct gendisk *src_disk;
	struct gendisk *dst_disk;
	u64 src;
	u64 dst;
	u64 len;
};

/**
 * struct blk_copy_buffer - memory for reading and writing
 * @pages: NULL until it is needed
 * @nr: how many there are
 */
struct blk_copy_buffer {
	struct page **pages;
	unsigned int nr;
};

/* provider.c */
struct blk_copy_provider *blk_copy_get(struct gendisk *disk);
struct blk_copy_provider *blk_copy_get_or_wait(struct gendisk *disk);
bool blk_copy_is_detoured(struct gendisk *disk);
void blk_copy_hold(struct blk_copy_provider *provider);
bool blk_copy_stopped(const struct blk_copy_op *op);
unsigned int blk_copy_epoch(void);
int blk_copy_wait(unsigned int epoch);
void blk_copy_put(struct blk_copy_provider *provider);

/* range.c */
bool blk_copy_overlaps(const struct blk_copy_span *span);
int blk_copy_lock_span(struct blk_copy_span *span);
void blk_copy_unlock_span(struct blk_copy_span *span);

/* emulate.c */
int blk_copy_read(const struct blk_copy_request *req,
		  struct blk_copy_buffer *buf, u64 *len);
int blk_copy_write(const struct blk_copy_request *req,
		   struct blk_copy_buffer *buf, u64 len);
void blk_copy_free_buffer(struct blk_copy_buffer *buf);

/* copy.c */
extern struct workqueue_struct *blk_copy_wq;

static inline unsigned int blk_copy_depth(const struct blk_copy_request *req)
{
	return req->parent ? req->parent->depth + 1 : 0;
}

static inline bool blk_copy_interrupted(const struct blk_copy_op *op)
{
	return task_sigpending(current) || blk_copy_cancelled(op);
}

/* queue.c */
int blk_copy_queue_init(void);
void blk_copy_queue_exit(void);

/* control.c */
int blk_copy_control_init(void);
void blk_copy_control_exit(void);

#endif
