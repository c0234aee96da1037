/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What blk-copy offers to other modules: copying ranges of block devices, and
 * being one of the drivers that can. See Documentation/blk-copy-api.rst.
 */
#ifndef BLK_COPY_API_H
#define BLK_COPY_API_H

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/workqueue.h>

#include "../uapi/blk-copy.h"

struct blk_copy_provider;

/**
 * struct blk_copy_request - a range to copy
 * @src: source, open
 * @dst: destination, open for writing
 * @src_pos: byte offset on @src
 * @dst_pos: byte offset on @dst
 * @len: bytes
 * @flags: BLK_COPY_EMULATE, BLK_COPY_NO_OFFLOAD
 * @parent: the piece of a disk above that a driver hands on, past the page
 *	caches; NULL: none
 * @below: with @parent, from a disk that leads past a detour: goes past it too
 * @end: for blk_copy_submit(): called in a worker when it is over
 * @private: the caller's
 * @done: set: bytes copied, from the beginning on
 * @offloaded: set: how many of them a driver has copied
 * @error: for blk_copy_submit(): set before @end: 0 or a negative error
 * @work: blk-copy's own
 */
struct blk_copy_request {
	struct block_device *src;
	struct block_device *dst;
	u64 src_pos;
	u64 dst_pos;
	u64 len;
	unsigned int flags;
	const struct blk_copy_op *parent;
	bool below;
	void (*end)(struct blk_copy_request *req);
	void *private;
	u64 done;
	u64 offloaded;
	int error;
	struct work_struct work;
};

/**
 * struct blk_copy_op - a piece of a range, within the limits of a driver
 * @src_disk: source
 * @dst_disk: destination; @src_disk, or one that blk_copy_ops.reaches allows
 * @src: byte offset on @src_disk
 * @dst: byte offset on @dst_disk
 * @len: bytes
 * @depth: how many disks above have handed this on
 * @group: of the block I/O controller, who is charged for it, for
 *	blk_copy_charge(); NULL: the root's
 * @parent: the piece of the disk above, if there is one
 * @private: as registered
 * @done: the driver sets it: bytes copied, from the beginning on
 * @error: of a queued piece, set by the driver: 0 or a negative error
 * @cancelled: nobody wants more of it; see blk_copy_cancelled()
 * @src_provider: blk-copy's own
 * @dst_provider: blk-copy's own
 * @complete: blk-copy's own
 */
struct blk_copy_op {
	struct gendisk *src_disk;
	struct gendisk *dst_disk;
	u64 src;
	u64 dst;
	u64 len;
	unsigned int depth;
	struct cgroup_subsys_state *group;
	const struct blk_copy_op *parent;
	void *private;
	u64 done;
	int error;
	bool cancelled;
	const struct blk_copy_provider *src_provider;
	const struct blk_copy_provider *dst_provider;
	struct completion complete;
};

/**
 * struct blk_copy_limits - what a driver can copy
 * @max_bytes: most of one piece
 * @granularity: offsets and lengths are multiples of it; a power of two
 * @optimal: the same for what is copied best; a power of two
 * @private: the driver's, for its functions
 */
struct blk_copy_limits {
	u64 max_bytes;
	u32 granularity;
	u32 optimal;
	void *private;
};

/**
 * struct blk_copy_ops - functions of a driver
 * @name: of the driver
 * @copy: copies a piece and waits for it; sets op->done and returns 0 or a
 *	negative error. With 0, all or a first part of it is done, but not
 *	nothing. -EOPNOTSUPP: what is left of this piece has to be emulated.
 *	What lies beyond op->done is unchanged, or holds what the piece would
 *	have put there. Called in a process that may sleep, without locks of
 *	the block layer. It sends no I/O to its own disk: that may go elsewhere
 *	(struct blk_copy_detour).
 * @reaches: whether pieces may go from one of its disks to another of them;
 *	NULL: not
 * @possible: for drivers that hand pieces on: what blk_copy_possible() says of the
 *	disks below, with @depth; NULL: 1
 */
struct blk_copy_ops {
	const char *name;
	int (*copy)(struct blk_copy_op *op);
	bool (*reaches)(struct gendisk *src, struct gendisk *dst);
	int (*possible)(void *private, unsigned int depth);
};

/*
 * What blk_copy() returns to a driver that hands a piece on, when a disk below
 * is paused; the driver returns it as well. No file system returns it.
 */
#define BLK_COPY_AGAIN (-EPROBE_DEFER)

int blk_copy(struct blk_copy_request *req);
void blk_copy_submit(struct blk_copy_request *req);
int blk_copy_possible(const struct blk_copy_request *req, unsigned int depth);

struct blk_copy_provider *blk_copy_register(struct gendisk *disk,
					    const struct blk_copy_ops *ops,
					    const struct blk_copy_limits *lim);
void blk_copy_unregister(struct blk_copy_provider *provider);

/* For drivers whose disk changes hands, as device-mapper's do. */
struct blk_copy_provider *
blk_copy_register_idle(struct gendisk *disk, const struct blk_copy_ops *ops,
		       const struct blk_copy_limits *lim);
void blk_copy_activate(struct blk_copy_provider *provider);
void blk_copy_pause(struct blk_copy_provider *provider);

/**
 * struct blk_copy_detour - a disk whose I/O goes elsewhere for a time
 * @node: blk-copy's own
 * @disk: the disk
 */
struct blk_copy_detour {
	struct list_head node;
	struct gendisk *disk;
};

void blk_copy_detour(struct blk_copy_detour *detour, struct gendisk *disk);
bool blk_copy_detour_settled(const struct blk_copy_detour *detour);
void blk_copy_detour_end(struct blk_copy_detour *detour);

/* For drivers with a queue: the piece as a request in it. */
int blk_copy_execute(struct request_queue *q, struct blk_copy_op *op);

/* For drivers without one: the piece in a worker. */
int blk_copy_call(struct blk_copy_op *op, int (*fn)(struct blk_copy_op *op));

/**
 * struct blk_copy_charge - what a worker does on behalf of others
 * @group: of the block I/O controller; NULL: nothing is to be undone
 * @memory: of the memory controller
 * @before: who was charged before
 */
struct blk_copy_charge {
	struct cgroup_subsys_state *group;
	struct cgroup_subsys_state *memory;
	struct mem_cgroup *before;
};

/* For workers: of drivers' own; a piece in a worker is charged already. */
void blk_copy_charge(struct blk_copy_charge *c,
		     struct cgroup_subsys_state *group);
void blk_copy_uncharge(struct blk_copy_charge *c);
bool blk_copy_is_own(struct bio *bio);

/* To be asked by drivers now and then in the course of a long piece. */
bool blk_copy_cancelled(const struct blk_copy_op *op);

static inline struct blk_copy_op *blk_copy_rq_op(struct request *rq)
{
	return rq->end_io_data;
}

/* The attributes in copy/, for device_add_disk(). */
extern const struct attribute_group blk_copy_attr_group;

#endif
