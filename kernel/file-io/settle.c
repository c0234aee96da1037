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
 * Somebody else may have tried to write them, and got the error: a neighbour in
 * the same page, a read that wants them written, a flush. Errors are counted
 * (losses.c); with one, requests fail that were under way, for one of them is
 * meant.
 *
 * Locks: file_io_pages.settling, in workers; below it what writing pages takes.
 * XFS counts an error when it has let go of the page, and a second one who waits
 * for the page must not look before that. Whoever else writes pages, as the
 * kernel's flusher, does not take the lock; what is lost in that moment only the
 * next flush tells, or a request that ends just then.
 */
#include <linux/pagemap.h>

#include "file-io.h"

/**
 * file_io_mark() - what errors are counted from
 * @f: the file
 *
 * Return: to be asked for before the file system is called.
 */
u64 file_io_mark(struct file_io *f)
{
	return f->direct ? file_io_losses(f->pages) : 0;
}

static bool file_io_is_cached(struct address_space *mapping, loff_t pos,
			      u64 len)
{
	return mapping->nrpages &&
	       filemap_range_has_page(mapping, pos, pos + len - 1);
}

/**
 * file_io_is_settled() - whether what was written has gone past the page cache
 * @f: the file
 * @pos: where, in bytes
 * @len: how much
 * @since: of file_io_mark()
 *
 * Return: true if nothing is left to be done, or cannot be.
 */
bool file_io_is_settled(struct file_io *f, loff_t pos, u64 len, u64 since)
{
	if (!f->direct)
		return true;
	if (file_io_is_cached(f->pages->mapping, pos, len))
		return false;
	/* Errors are set before pages go, under a lock of the page cache. */
	smp_rmb();
	return file_io_losses(f->pages) == since;
}

static int file_io_write_and_drop(struct file_io_pages *pages, loff_t pos,
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
 * file_io_settle() - make sure that what was written will stay
 * @f: the file
 * @pos: where, in bytes
 * @len: how much
 * @since: of file_io_mark()
 * @ret: what the file system has returned for it
 *
 * Context: a worker. Return: @ret, or a negative error.
 */
ssize_t file_io_settle(struct file_io *f, loff_t pos, u64 len, u64 since,
		       ssize_t ret)
{
	int err = 0, lost;

	if (!f->direct)
		return ret;
	if (file_io_is_cached(f->pages->mapping, pos, len))
		err = file_io_write_and_drop(f->pages, pos, pos + len - 1);
	/* The request is done in another way: this is not how it ends. */
	if (ret == -EOPNOTSUPP || ret == -EINVAL)
		return ret;
	/* Errors are set before pages go, under a lock of the page cache. */
	smp_rmb();
	lost = file_io_tell(f, since);
	return ret < 0 ? ret : err ?: lost ?: ret;
}
