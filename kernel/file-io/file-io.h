/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * file-io: the parts and how they fit. Calls go down only.
 *
 *   main.c      loading and unloading
 *   open.c      opening, what direct I/O needs
 *   turn.c      what XFS keeps in reserve, while others may write and when we do
 *   request.c   reads and writes by a worker, to the end
 *   try.c       reads and writes at once, where that does not block
 *   share.c     sharing extents, copies by the file system
 *   space.c     holes, zeros, and the end of the file
 *   flush.c     durability; time stamps
 *   sync.c      reads and writes of kernel memory that are waited for
 *   put-back.c  what a write leaves behind in XFS that fails
 *   settle.c    what goes through the page cache nevertheless
 *   losses.c    errors of that, and who has been told
 *   rw.c        reads and writes as the file system does them
 *   pages.c     page caches, of all users of a file
 *
 * The lock order is in api.h.
 */
#ifndef FILE_IO_H
#define FILE_IO_H

#include <linux/errseq.h>
#include <linux/list.h>
#include <linux/pagemap.h>
#include <linux/uio.h>

#include "api.h"

#undef pr_fmt
#define pr_fmt(fmt) "file-io: " fmt

/**
 * struct file_io_pages - the page cache of a file, for all its users
 */
struct file_io_pages {
	/** @node: list of all, under file_io_pages_lock */
	struct list_head node;
	/** @mapping: the page cache; with overlayfs, of the file below that */
	struct address_space *mapping;
	/** @users: how many there are, under file_io_pages_lock */
	unsigned int users;
	/** @gfp: of @mapping, before the first */
	gfp_t gfp;
	/** @settling: one at a time writes and drops pages */
	struct mutex settling;
	/** @lock: protects what follows, and who was told of it */
	spinlock_t lock;
	/** @counted: @mapping->wb_err when @losses was counted */
	errseq_t counted;
	/** @error: of the last loss */
	int error;
	/** @losses: how often writing pages has failed; set before @counted */
	u64 losses;
};

/* pages.c */
struct file_io_pages *file_io_pages_get(struct address_space *mapping);
void file_io_pages_put(struct file_io_pages *pages);
void file_io_drop_work(struct work_struct *work);

/* losses.c */
void file_io_losses_init(struct file_io_pages *pages);
u64 file_io_losses(struct file_io_pages *pages);
void file_io_losses_begin(struct file_io *f);
int file_io_tell(struct file_io *f, u64 since);
void file_io_told_by_fsync(struct file_io *f);
bool file_io_fsync_repeats(struct file_io *f, u64 losses);

/* settle.c */
u64 file_io_mark(struct file_io *f);
bool file_io_is_settled(struct file_io *f, loff_t pos, u64 len, u64 since);
ssize_t file_io_settle(struct file_io *f, loff_t pos, u64 len, u64 since,
		       ssize_t ret);

/* rw.c */
ssize_t file_io_rw(struct file *file, bool write, loff_t pos,
		   const struct bio_vec *bv, unsigned int nr, size_t len);

/* put-back.c */
bool file_io_leaves(const struct file_io *f, loff_t pos, u64 len);
void file_io_put_back(struct file_io *f, loff_t pos, u64 len);

/* turn.c */
int file_io_turn_init(void);
void file_io_turn_exit(void);

/*
 * Entries of a table that a part of it touches. Not for_each_bvec(), which counts
 * the pages of an entry one by one.
 */
static inline unsigned int file_io_bvecs(const struct bio_vec *bv,
					 struct bvec_iter part)
{
	unsigned int n;

	for (n = 0; part.bi_size; n++)
		bvec_iter_advance_single(bv, &part, mp_bvec_iter_len(bv, part));
	return n;
}

/* What a part of a table of memory is to the file system. */
static inline void file_io_iter(struct iov_iter *iter, bool write,
				const struct bio_vec *bv,
				const struct bvec_iter *part)
{
	iov_iter_bvec(iter, write ? ITER_SOURCE : ITER_DEST,
		      __bvec_iter_bvec(bv, *part), file_io_bvecs(bv, *part),
		      part->bi_size);
	iter->iov_offset = part->bi_bvec_done;
}

/* Whether reads, writes and fsync are passed on to a file below (overlayfs). */
static inline bool file_io_is_overlaid(const struct file_io *f)
{
	return f->data->f_mapping != f->pages->mapping;
}

static inline void file_io_note_write(struct file_io *f)
{
	if (!READ_ONCE(f->written))
		WRITE_ONCE(f->written, true);
}

#endif
