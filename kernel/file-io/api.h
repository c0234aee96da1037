/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What file-io offers to other modules: I/O to a regular file that is the
 * backing of a disk.
 *
 * A driver opens the file, begins its turn with it, and tries each read or
 * write where it arrives (file_io_may_try(), file_io_try()). What would block,
 * or is not safe there, it gives to a worker of its own, which calls
 * file_io_submit(); that one takes care of all that may be left to be done.
 *
 * Lock order, outermost first; a driver's locks are outside of all of them:
 *
 *   file_io.flushing          around the fsync of a file without direct I/O, or
 *                             below an overlay
 *   file_io_pages.settling    who writes and drops pages (settle.c)
 *   the file system's
 *   file_io_pages.lock        losses, and who was told (losses.c); below it
 *                             the kernel's file.f_lock
 *   file_io_pages_lock        which page caches are in use (pages.c); a leaf
 *
 * Calls blk-copy for charging control groups, and nothing else of liveblk.
 */
#ifndef FILE_IO_API_H
#define FILE_IO_API_H

#include <linux/bvec.h>
#include <linux/cgroup.h>
#include <linux/fs.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/workqueue.h>

struct file_io_pages;
struct request_queue;

/**
 * enum file_io_flags - how a file is to be used
 * @FILE_IO_READ_ONLY: it is never written
 * @FILE_IO_BUFFERED: direct I/O is not wanted
 * @FILE_IO_FALL_BACK: what direct I/O refuses for its alignment goes through
 *	the page cache. Where the file system does not say what it needs, sectors
 *	are tried then; otherwise whole blocks of it are needed.
 * @FILE_IO_KEEP_SIZE: what lies beyond the end of the file is not written: one
 *	that somebody has shortened would grow again
 * @FILE_IO_ZERO_BEYOND: what lies beyond the end of the file reads as zeros, and
 *	is no error
 */
enum file_io_flags {
	FILE_IO_READ_ONLY	= BIT(0),
	FILE_IO_BUFFERED	= BIT(1),
	FILE_IO_FALL_BACK	= BIT(2),
	FILE_IO_KEEP_SIZE	= BIT(3),
	FILE_IO_ZERO_BEYOND	= BIT(4),
};

/**
 * struct file_io - a file that is open for I/O
 *
 * The driver sets @queue and @wq before the first I/O. file_io_open() sets what
 * the file is like, which stays until file_io_close(); @exact and all after it
 * change, and are file-io's own, but for @exact and @shares, which may be read.
 */
struct file_io {
	/**
	 * @data: for I/O; direct if @direct. Writes through it leave the time
	 * stamp alone, see file_io_touch().
	 */
	struct file *data;
	/** @meta: the same file through the page cache; may own locks */
	struct file *meta;
	/** @pages: its page cache */
	struct file_io_pages *pages;
	/**
	 * @queue: the queue whose requests file_io_try() is for; NULL: a driver
	 * of bios
	 */
	struct request_queue *queue;
	/**
	 * @wq: goes on with requests that were done in part, and drops the page
	 * cache; with a rescuer if the driver promises to work when memory is
	 * short
	 */
	struct workqueue_struct *wq;
	/** @flags: enum file_io_flags */
	u32 flags;
	/**
	 * @align: offsets and lengths of direct I/O are multiples of this, in
	 * bytes
	 */
	u32 align;
	/**
	 * @mem_align: its memory begins and ends at multiples of this, in bytes
	 */
	u32 mem_align;
	/** @direct: I/O bypasses the page cache */
	bool direct;
	/** @nowait: I/O may be tried without blocking */
	bool nowait;
	/**
	 * @exact: extents may be shared, as far as copies by others go
	 * (compat/cow.h); fixed during a turn
	 */
	bool exact;
	/** @shares: that the file system shares extents is still believed */
	bool shares;
	/** @written: the file owes its time stamp an update */
	bool written;
	/**
	 * @told: of how many losses of @pages its requests or flushes have told;
	 * under @pages->lock
	 */
	u64 told;
	/**
	 * @owed: below an overlay: fsync will tell of what was told; under
	 * @pages->lock
	 */
	bool owed;
	/** @lost: the page cache has lost what was accepted; set in @flushing */
	bool lost;
	/** @ended: the turn is over: @drop_work stops */
	bool ended;
	/** @flushing: one fsync at a time, without direct I/O or below an overlay */
	struct mutex flushing;
	/** @drop_work: gives up what the page cache has */
	struct work_struct drop_work;
};

struct file_io_req;
typedef void (*file_io_done_fn)(struct file_io_req *req, int err);

/**
 * struct file_io_req - a read or write by a worker
 *
 * The driver sets @file, @done, @bv, @part, @write, @ioprio, @pos and @group. The
 * rest is file-io's own; a driver that tries the I/O first may use @iocb, @refs
 * and @ret for that.
 */
struct file_io_req {
	/** @iocb: of the I/O that is under way */
	struct kiocb iocb;
	/** @file: where */
	struct file_io *file;
	/** @done: called once, in any context, with 0 or a negative error */
	file_io_done_fn done;
	/** @bv: the memory */
	const struct bio_vec *bv;
	/** @part: what of @bv is still to be done; moves on */
	struct bvec_iter part;
	/** @write: direction */
	bool write;
	/** @buffered: direct I/O is not possible for it */
	bool buffered;
	/** @ioprio: I/O priority */
	u16 ioprio;
	/** @pos: the place in the file that goes with @part; moves on */
	loff_t pos;
	/**
	 * @group: of the block I/O controller, who is charged for it; NULL:
	 * whoever the worker acts for. It stays until @done.
	 */
	struct cgroup_subsys_state *group;
	/**
	 * @refs: its submission and its completion; the last one goes on,
	 * because a file system may look at an iocb after it has completed it
	 */
	atomic_t refs;
	/** @error: what it ends with when what it has left is cleaned up */
	int error;
	/** @ret: what the file system said */
	long ret;
	/** @work: goes on with it */
	struct work_struct work;
};

/* open.c */
struct file *file_io_open_path(const char *path, int flags);
struct file *file_io_reopen(struct file *passed, int flags);
int file_io_open(struct file_io *f, struct file *meta, u32 flags);
void file_io_close(struct file_io *f);

/* turn.c */
void file_io_begin(struct file_io *f);
void file_io_ask_sharing(struct file_io *f);
int file_io_give_back(struct file_io *f);
int file_io_end(struct file_io *f);

/* pages.c */
struct inode *file_io_inode(const struct file_io *f);
void file_io_drop_cache(struct file_io *f);

/* try.c */
bool file_io_may_try(const struct file_io *f, bool write);
ssize_t file_io_try(struct file_io *f, struct kiocb *iocb, bool write,
		    const struct bio_vec *bv, const struct bvec_iter *part);

/* request.c */
void file_io_submit(struct file_io_req *req);

/* sync.c */
ssize_t file_io_read(struct file_io *f, loff_t pos, const struct bio_vec *bv,
		     unsigned int nr, size_t len);
ssize_t file_io_write(struct file_io *f, loff_t pos, const struct bio_vec *bv,
		      unsigned int nr, size_t len);

/* flush.c */
int file_io_flush(struct file_io *f);
bool file_io_has_lost(const struct file_io *f);
void file_io_touch(struct file_io *f);

/* space.c */
int file_io_punch(struct file_io *f, loff_t pos, u64 len);
int file_io_zero(struct file_io *f, loff_t pos, u64 len);
int file_io_extend(struct file_io *f, loff_t from, loff_t to);
int file_io_trim(struct file_io *f, loff_t size);

/* share.c */
loff_t file_io_share(struct file_io *src, loff_t from, struct file_io *dst,
		     loff_t to, u64 len);
ssize_t file_io_copy(struct file_io *src, loff_t from, struct file_io *dst,
		     loff_t to, u64 len);

static inline loff_t file_io_size(const struct file_io *f)
{
	return i_size_read(file_inode(f->meta));
}

/* Bytes of a block of the file system, below an overlay. */
static inline u32 file_io_block(const struct file_io *f)
{
	return i_blocksize(file_io_inode(f));
}

/* Whether a range is in the file; see FILE_IO_KEEP_SIZE. */
static inline bool file_io_holds(const struct file_io *f, loff_t pos, u64 len)
{
	return pos + len <= file_io_size(f);
}

static inline bool file_io_may_share(const struct file_io *f)
{
	return READ_ONCE(f->shares) && f->exact;
}

/**
 * file_io_ended() - lets go of what a write has kept from being frozen
 * @iocb: of file_io_try(), when it is over
 *
 * The first thing that kiocb.ki_complete does, and what its caller does if
 * file_io_try() itself says how it has ended. Context: any.
 */
static inline void file_io_ended(struct kiocb *iocb)
{
	if (iocb->ki_flags & IOCB_WRITE)
		kiocb_end_write(iocb);
}

/**
 * file_io_advance() - a part of a request is done
 * @req: the request
 * @bytes: how much, from where it is on
 */
static inline void file_io_advance(struct file_io_req *req, unsigned int bytes)
{
	bvec_iter_advance(req->bv, &req->part, bytes);
	req->pos += bytes;
}

#define FILE_IO_SCOPE (PF_MEMALLOC_NOIO | PF_LOCAL_THROTTLE)

/**
 * file_io_scope_save() - begin work that other I/O waits for
 *
 * Memory must not be waited for by I/O to the disk that is served, and a worker
 * that cleans pages must not be throttled for what others have dirtied: with a
 * buffered file, and with a direct one for parts of blocks that it shares (XFS).
 * Return: for file_io_scope_restore().
 */
static inline unsigned int file_io_scope_save(void)
{
	unsigned int old = current->flags & FILE_IO_SCOPE;

	current->flags |= FILE_IO_SCOPE;
	return old;
}

/**
 * file_io_scope_restore() - end what file_io_scope_save() began
 * @old: its return value
 */
static inline void file_io_scope_restore(unsigned int old)
{
	current->flags = (current->flags & ~FILE_IO_SCOPE) | old;
}

#endif
