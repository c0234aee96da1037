/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * loop-copy: the parts and how they fit.
 *
 *   main.c     loading and unloading
 *   control.c  the control device; which disks there are
 *   copy.c     a piece of a copy
 *   disk.c     a disk: making, removing, its attributes
 *   file.c     the file below: opening, what it can do, its size
 *   io.c       reads and writes: at once where that does not block
 *   put_back.c what a write leaves behind in XFS that fails
 *   settle.c   what goes through the page cache nevertheless
 *   work.c     what may block: flush, discard, zeroes; whose turn it is
 *
 * Lock order, outermost first:
 *
 *   loop_copy.lock         attach, detach, resize, removal of this disk (control.c)
 *   gendisk.open_mutex     the block layer's; protects .gone
 *   loop_copy_disks.xa_lock  which disks there are (control.c); a leaf
 *   loop_copy_files_lock   which files are attached (file.c); a leaf
 *
 * Requests go through the file system below, as any program's I/O on the file
 * does, and take no lock of ours outside of that; a worker that has to write and
 * drop pages then takes:
 *
 *   loop_copy_pages.settling  (settle.c)
 *   the file system's for writing pages
 */
#ifndef LOOP_COPY_H
#define LOOP_COPY_H

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/errseq.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/workqueue.h>

#include "../compat/copy.h"
#include "../blk-copy/api.h"
#include "../uapi/loop-copy.h"

#undef pr_fmt
#define pr_fmt(fmt) "loop-copy: " fmt

struct loop_copy_buf;

/**
 * struct loop_copy_pages - the page cache of a file, for all disks of that file
 * @node: list of all, under loop_copy_files_lock
 * @mapping: the page cache; with overlayfs, of the file below that
 * @disks: how many there are, under loop_copy_files_lock
 * @gfp: of @mapping, before the first
 * @settling: one at a time writes and drops pages
 */
struct loop_copy_pages {
	struct list_head node;
	struct address_space *mapping;
	unsigned int disks;
	gfp_t gfp;
	struct mutex settling; /* writing and dropping pages */
};

/**
 * struct loop_copy_file - the file below a disk
 * @data: for reads, writes and copies; with direct I/O if @direct. Writes
 *	through it leave the time stamp alone.
 * @meta: the same file for everything else, through the page cache
 * @pages: its page cache
 * @direct: direct I/O is used
 * @nowait: a request can be tried where it arrives
 * @exact: extents may be shared, as far as copies by others go (compat/cow.h)
 * @shares: its file system shares extents
 * @written: there were writes since the time stamp was set
 */
struct loop_copy_file {
	struct file *data;
	struct file *meta;
	struct loop_copy_pages *pages;
	bool direct;
	bool nowait;
	bool exact;
	bool shares;
	bool written;
};

/**
 * struct loop_copy - a disk
 * @refs: the table's, and of whoever is at it
 * @lock: for what is done to it as a whole; protects @ready
 * @number: n of loopcn
 * @flags: LOOP_COPY_*
 * @file: the file below
 * @disk: the disk
 * @tag_set: its queue
 * @wq: for requests that may block
 * @provider: at blk-copy
 * @spare: memory of a copy that is over, for the next; taken by xchg()
 * @remove: for what goes away by itself; holds a reference
 * @ready: it is made, and not gone yet
 * @used: somebody has used it, and did not only look; it is never unset
 * @gone: it cannot be opened any more; under disk->open_mutex
 */
struct loop_copy {
	struct kref refs;
	struct mutex lock; /* attach, detach, resize, removal; ready */
	u32 number;
	u32 flags;
	struct loop_copy_file file;
	struct gendisk *disk;
	struct blk_mq_tag_set tag_set;
	struct workqueue_struct *wq;
	struct blk_copy_provider *provider;
	struct loop_copy_buf *spare;
	struct work_struct remove;
	bool ready;
	bool used;
	bool gone;
};

/**
 * struct loop_copy_cmd - beside each request
 * @iocb: of the I/O that is under way
 * @work: when it may block
 * @bvec: its memory, if the request has several bios
 * @refs: submission and completion of the I/O
 * @ret: what it has returned
 * @done: bytes of the request that are done
 * @error: what it ends with when a worker has put back what it left
 * @buffered: direct I/O is not possible for it
 * @write_begun: holds the file system's freeze protection
 */
struct loop_copy_cmd {
	struct kiocb iocb;
	struct work_struct work;
	struct bio_vec *bvec;
	atomic_t refs;
	long ret;
	u32 done;
	int error;
	bool buffered;
	bool write_begun;
};

static inline struct loop_copy *loop_copy_of(struct request *rq)
{
	return rq->q->queuedata;
}

/* file.c */
int loop_copy_file_init(void);
void loop_copy_file_exit(void);
int loop_copy_file_open(struct loop_copy_file *f, int fd, u32 flags);
void loop_copy_file_close(struct loop_copy_file *f);
u32 loop_copy_file_block(const struct loop_copy_file *f);
u32 loop_copy_file_memory(const struct loop_copy_file *f);
void loop_copy_file_touch(struct loop_copy_file *f);
ssize_t loop_copy_file_rw(struct file *file, bool write, loff_t pos,
			  const struct bio_vec *bv, unsigned int nr, size_t len);

static inline loff_t loop_copy_file_size(const struct loop_copy_file *f)
{
	return i_size_read(file_inode(f->meta));
}

/*
 * Whether a range is in the file still. What lies beyond the end of one that has
 * been shortened is not written: it would grow again.
 */
static inline bool loop_copy_file_holds(const struct loop_copy_file *f,
					loff_t pos, u64 len)
{
	return pos + len <= loop_copy_file_size(f);
}

/* Whose pages and extents they are: overlayfs passes reads and writes on. */
static inline struct inode *loop_copy_inode(const struct loop_copy_file *f)
{
	return f->pages->mapping->host;
}

static inline bool loop_copy_may_share(const struct loop_copy_file *f)
{
	return f->shares && f->exact;
}

static inline unsigned int loop_copy_fs_block(const struct loop_copy_file *f)
{
	return i_blocksize(loop_copy_inode(f));
}

/* settle.c */
errseq_t loop_copy_mark(struct loop_copy_file *f);
bool loop_copy_is_settled(struct loop_copy_file *f, loff_t pos, u64 len,
			  errseq_t since);
ssize_t loop_copy_settle(struct loop_copy_file *f, loff_t pos, u64 len,
			 errseq_t since, ssize_t ret);

/* put_back.c */
bool loop_copy_leaves(const struct loop_copy_file *f, loff_t pos, u64 len);
void loop_copy_put_back(struct loop_copy_file *f, loff_t pos, u64 len);

/* disk.c */
int loop_copy_create(struct loop_copy *lc, const struct loop_copy_attach *call);
int loop_copy_close_for_good(struct loop_copy *lc);
void loop_copy_remove(struct loop_copy *lc);
void loop_copy_free(struct loop_copy *lc);
int loop_copy_resize(struct loop_copy *lc);

/* control.c */
void loop_copy_removed(struct loop_copy *lc);
int loop_copy_control_init(void);
void loop_copy_control_exit(void);

/* copy.c */
int loop_copy_copy(struct loop_copy *dst, struct blk_copy_op *op);
void loop_copy_free_spare(struct loop_copy *lc);

/* io.c */
bool loop_copy_rw_inline(struct loop_copy *lc, struct request *rq);
void loop_copy_rw(struct loop_copy *lc, struct request *rq);

/* work.c */
void loop_copy_work(struct work_struct *work);

#endif
