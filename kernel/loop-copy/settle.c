// SPDX-License-Identifier: GPL-2.0-only
/*
 * What goes through the page cache though direct I/O was asked for.
 *
 * XFS does so for parts of blocks once a file has shared some, and for the edges
 * of a range that is to be zero. Whether there is room for them it learns when
 * the pages are written. By then we would have reported success; what was there
 * before would come back, and the pages would stay, as if they had been written,
 * for the next write to a part of them. So they are written before the request
 * ends, and dropped, whether that fails or not: direct I/O likes none.
 *
 * Somebody else may have tried to write them, and been told of the error: a
 * neighbour in the same page, a read that wants them written, a flush. It is
 * counted in mapping->wb_err; with that, requests fail that were under way,
 * for one of them is meant.
 *
 * Locks: loop_copy_pages.settling, in workers; below it what writing pages takes.
 * XFS counts an error when it has let go of the page, and a second one who waits
 * for the page must not look before that. Whoever else writes pages, as the
 * kernel's flusher, does not take the lock; what is lost in that moment only the
 * next flush tells.
 */
#include <linux/pagemap.h>

#include "loop-copy.h"

/**
 * loop_copy_mark() - what errors are counted from
 * @f: the file
 *
 * Return: to be asked for before the file system is called.
 */
errseq_t loop_copy_mark(struct loop_copy_file *f)
{
	errseq_t since = 0;

	/* Marks the last one as seen, so that the next is another. */
	if (f->direct)
		errseq_check_and_advance(&f->pages->mapping->wb_err, &since);
	return since;
}

static bool is_cached(struct address_space *mapping, loff_t pos, u64 len)
{
	return mapping->nrpages &&
	       filemap_range_has_page(mapping, pos, pos + len - 1);
}

/* For when there are no pages any more. */
static int lost(struct address_space *mapping, errseq_t since)
{
	/* Errors are counted before pages go, under a lock of the page cache. */
	smp_rmb();
	return errseq_check(&mapping->wb_err, since);
}

/**
 * loop_copy_is_settled() - whether what was written has gone past the page cache
 * @f: the file
 * @pos: where, in bytes
 * @len: how much
 * @since: of loop_copy_mark()
 *
 * Return: true if nothing is left to be done, or cannot be.
 */
bool loop_copy_is_settled(struct loop_copy_file *f, loff_t pos, u64 len,
			  errseq_t since)
{
	struct address_space *mapping = f->pages->mapping;

	return !f->direct ||
	       (!is_cached(mapping, pos, len) && !lost(mapping, since));
}

static int write_and_drop(struct loop_copy_pages *pages, loff_t pos,
			  loff_t last)
{
	struct address_space *mapping = pages->mapping;
	int err;

	mutex_lock(&pages->settling);
	err = filemap_fdatawrite_range(mapping, pos, last);
	/* What it returns may be from before. */
	filemap_fdatawait_range(mapping, pos, last);
	invalidate_inode_pages2_range(mapping, pos >> PAGE_SHIFT,
				      last >> PAGE_SHIFT);
	mutex_unlock(&pages->settling);
	return err;
}

/**
 * loop_copy_settle() - make sure that what was written will stay
 * @f: the file
 * @pos: where, in bytes
 * @len: how much
 * @since: of loop_copy_mark()
 * @ret: what the file system has returned for it
 *
 * Context: a worker. Return: @ret, or a negative error.
 */
ssize_t loop_copy_settle(struct loop_copy_file *f, loff_t pos, u64 len,
			 errseq_t since, ssize_t ret)
{
	struct address_space *mapping = f->pages->mapping;
	int err = 0;

	if (!f->direct)
		return ret;
	if (is_cached(mapping, pos, len))
		err = write_and_drop(f->pages, pos, pos + len - 1);
	err = err ?: lost(mapping, since);
	return ret < 0 ? ret : err ?: ret;
}
