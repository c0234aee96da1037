/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * store: where the bytes of an image are. Reads, writes and copies them without
 * knowing what they mean. Calls core, and file-io and blk-copy.
 *
 *   about.c   what a store is like
 *   open.c    the file or block device behind a path or descriptor
 *   file.c    requests to a file, by kiocb
 *   bdev.c    requests to a block device, by bio
 *   io.c      requests, wherever they go
 *   space.c   durable, longer, shorter, given back
 *   turn.c    what other programs see before and after our turn
 *   copy.c    bytes from place to place
 *   buffer.c  memory for that
 *   lock.c    locks that QEMU respects
 *
 * Takes no locks but those of file-io, which are inside all of ours.
 */
#ifndef QCOW2_STORE_H
#define QCOW2_STORE_H

#include <linux/bio.h>
#include <linux/device-mapper.h>
#include <linux/fs.h>
#include <linux/mutex.h>
#include <linux/workqueue.h>

#include "../../blk-copy/api.h"
#include "../../file-io/api.h"
#include "../core/core.h"

#define QCOW2_BUF_PAGES		16
#define QCOW2_BUF_SIZE		(QCOW2_BUF_PAGES * PAGE_SIZE)
#define QCOW2_ZERO_PAGES	64
#define QCOW2_ZERO_BYTES	((u64)QCOW2_ZERO_PAGES * PAGE_SIZE)

/**
 * struct qcow2_store - a file or a block device
 */
struct qcow2_store {
	/** @core: whom it belongs to */
	struct qcow2_core *core;
	/** @path: its name, for the log and the table */
	char *path;
	/** @io: the regular file, unless it is a block device */
	struct file_io io;
	/** @file: the file that I/O goes through and that owns the locks */
	struct file *file;
	/** @lock_file: that of a block device, as it was given */
	struct file *lock_file;
	/**
	 * @dev: device-mapper's reference if it is a block device of a target's
	 * own, else NULL
	 */
	struct dm_dev *dev;
	/** @bdev: the block device, or NULL */
	struct block_device *bdev;
	/** @bs: bios for @bdev */
	struct bio_set bs;
	/** @wq: goes on with requests that a file system did in part */
	struct workqueue_struct *wq;
	/** @align: offsets and lengths of direct I/O are multiples of it, in bytes */
	u32 align;
	/** @mem_align: its memory begins and ends at multiples of it, in bytes */
	u32 mem_align;
	/** @direct: I/O bypasses the page cache */
	bool direct;
	/** @punch: that space below can be given back is still believed */
	bool punch;
	/** @read_only: opened for reading only */
	bool read_only;
};

/**
 * struct qcow2_how - what the store is to know of the one a request is for
 * @flags: of the request, see QCOW2_CARRIED
 * @ioprio: I/O priority
 * @group: who is charged for it; NULL: whoever the worker acts for, which is
 *	nobody but for a copy. It stays for as long as the bio that it is from.
 */
struct qcow2_how {
	blk_opf_t flags;
	u16 ioprio;
	struct cgroup_subsys_state *group;
};

/*
 * What a bio's requests to the store have in common with it. All else is about
 * the bio itself, or about how it was submitted.
 */
#define QCOW2_CARRIED (REQ_SYNC | REQ_META | REQ_PRIO | REQ_IDLE |	\
		       REQ_BACKGROUND | REQ_RAHEAD | REQ_SWAP |		\
		       REQ_FAILFAST_MASK)

/* Many wait for metadata, whoever it is that made it change. */
#define QCOW2_FOR_METADATA						\
	((struct qcow2_how) { .flags = REQ_SYNC | REQ_META })

struct qcow2_store_io;
typedef void (*qcow2_store_done_fn)(struct qcow2_store_io *sio, int err);

/**
 * struct qcow2_store_io - one asynchronous request to a store
 * @file: for a file
 * @store: where
 * @done: called once, in any context, with 0 or a negative error
 * @bv: the memory
 * @bv_iter: what of @bv is still to be done
 * @pos: byte offset in the store that goes with @bv_iter
 * @write: direction
 * @how: on whose behalf
 */
struct qcow2_store_io {
	struct file_io_req file;
	struct qcow2_store *store;
	qcow2_store_done_fn done;
	const struct bio_vec *bv;
	struct bvec_iter bv_iter;
	u64 pos;
	bool write;
	struct qcow2_how how;
};

/* A worker may have one buffer for each of these, got in this order. */
enum qcow2_buf_use {
	QCOW2_BUF_BOUNCE,
	QCOW2_BUF_COPY,
	QCOW2_BUF_EDGE,
	QCOW2_BUF_USES
};

/**
 * struct qcow2_buf - memory of up to QCOW2_BUF_SIZE bytes
 * @bv: its pages
 * @use: what it was got for
 */
struct qcow2_buf {
	struct bio_vec bv[QCOW2_BUF_PAGES];
	enum qcow2_buf_use use;
};

/**
 * struct qcow2_bufs - memory that is always there
 * @emergency: buffers for when there is no memory
 * @busy: a bit for each of them in use
 * @zero_bv: pages of zeros, QCOW2_ZERO_BYTES in all
 */
struct qcow2_bufs {
	struct qcow2_buf emergency[QCOW2_BUF_USES];
	unsigned long busy;
	struct bio_vec zero_bv[QCOW2_ZERO_PAGES];
};

/**
 * struct qcow2_span - bytes to be copied
 * @src: where they are
 * @from: byte offset there
 * @dst: where they go; may be @src
 * @to: byte offset there
 * @len: how many; the two ranges do not overlap
 */
struct qcow2_span {
	struct qcow2_store *src;
	u64 from;
	struct qcow2_store *dst;
	u64 to;
	u64 len;
};

/**
 * enum qcow2_zeroing - how guest bytes become zeros
 * @QCOW2_DISCARD: those in whole clusters, whose space is set free
 * @QCOW2_ZERO_FREE: all; the space of whole clusters is set free
 * @QCOW2_ZERO_KEEP: all; their space stays
 */
enum qcow2_zeroing { QCOW2_DISCARD, QCOW2_ZERO_FREE, QCOW2_ZERO_KEEP };

/**
 * struct qcow2_zero - bytes of a store that are to become zeros
 * @pos: where they are; aligned to the store
 * @len: how many, the same
 * @how: how; of a block device a discard leaves what that likes
 * @whose: on whose behalf
 */
struct qcow2_zero {
	u64 pos;
	u64 len;
	enum qcow2_zeroing how;
	struct qcow2_how whose;
};

/* open.c */
int qcow2_store_open(struct qcow2_store *st, struct qcow2_core *core,
		     const char *spec, bool read_only);
void qcow2_store_close(struct qcow2_store *st);

/* about.c */
struct inode *qcow2_store_inode(const struct qcow2_store *st);
u64 qcow2_store_size(const struct qcow2_store *st);
u64 qcow2_store_most(const struct qcow2_store *st);
bool qcow2_store_lies_on(const struct qcow2_store *st,
			 const struct gendisk *disk);
u32 qcow2_store_block(const struct qcow2_store *st);
bool qcow2_store_stable(const struct qcow2_store *st);

/* file.c */
int qcow2_file_open(struct qcow2_store *st);
void qcow2_file_issue(struct qcow2_store_io *sio);

/* bdev.c */
int qcow2_bdev_claim(struct dm_target *ti, const struct file *file,
		     bool read_only, struct dm_dev **dev);
int qcow2_bdev_open(struct qcow2_store *st);
void qcow2_bdev_issue(struct qcow2_store_io *sio);

/* io.c */
void qcow2_store_submit(struct qcow2_store_io *sio);
void qcow2_store_use_bio(struct qcow2_store_io *sio, struct bio *bio, u64 skip,
			 u64 len);
void qcow2_store_use_vec(struct qcow2_store_io *sio, const struct bio_vec *bv,
			 u64 len);
int qcow2_store_rw(struct qcow2_store *st, bool write, u64 pos,
		   const struct bio_vec *bv, u64 skip, u64 len,
		   struct qcow2_how how);
int qcow2_store_rw_buf(struct qcow2_store *st, bool write, u64 pos, void *buf,
		       u64 len);
int qcow2_store_read_data(struct qcow2_store *st, u64 pos, void *buf, u64 len,
			  struct qcow2_how how);
bool qcow2_store_misaligned(const struct qcow2_store *st,
			    const struct bio *bio, u64 pos, u64 len);

/* space.c */
int qcow2_store_flush(struct qcow2_store *st);
bool qcow2_store_has_lost(struct qcow2_store *st);
void qcow2_store_touch(struct qcow2_store *st);
int qcow2_store_extend(struct qcow2_store *st, u64 from, u64 to);
int qcow2_store_trim(struct qcow2_store *st, u64 size);
void qcow2_store_discard(struct qcow2_store *st, u64 pos, u64 len,
			 struct bio **chain);
void qcow2_store_discarded(struct bio *chain);
int qcow2_store_zero(struct qcow2_store *st, struct qcow2_bufs *bufs,
		     const struct qcow2_zero *z);

/* turn.c */
int qcow2_store_begin(struct qcow2_store *st);
void qcow2_store_drop_cache(struct qcow2_store *st);
int qcow2_store_end(struct qcow2_store *st);

/* copy.c */
u64 qcow2_store_share(const struct qcow2_span *s);
int qcow2_store_copy(const struct qcow2_span *s,
		     const struct blk_copy_op *parent);
int qcow2_store_copy_by_hand(const struct qcow2_span *s,
			     struct qcow2_bufs *bufs, struct qcow2_how how);
int qcow2_store_copy_for_write(const struct qcow2_span *s,
			       struct qcow2_bufs *bufs, struct qcow2_how how);
int qcow2_store_fill_zero(struct qcow2_store *st, struct qcow2_bufs *bufs,
			  u64 to, u64 len, struct qcow2_how how);

/* buffer.c */
int qcow2_bufs_init(struct qcow2_bufs *bufs);
void qcow2_bufs_exit(struct qcow2_bufs *bufs);
struct qcow2_buf *qcow2_buf_get(struct qcow2_bufs *bufs, u64 len,
				enum qcow2_buf_use use);
void qcow2_buf_put(struct qcow2_bufs *bufs, struct qcow2_buf *buf);
void qcow2_buf_zero(struct qcow2_buf *buf, u64 skip, u64 len);
void qcow2_buf_copy(struct qcow2_buf *dst, u64 to, const struct qcow2_buf *src,
		    u64 from, u64 len);
void qcow2_buf_to_bio(struct qcow2_buf *buf, u64 skip, struct bio *bio,
		      u64 from, u64 len);
void qcow2_buf_from_bio(struct qcow2_buf *buf, u64 skip, struct bio *bio,
			u64 from, u64 len);

/* lock.c */
int qcow2_store_lock(struct qcow2_store *st);
void qcow2_store_unlock(struct qcow2_store *st);

#endif
