// SPDX-License-Identifier: GPL-2.0-only
/*
 * What goes through the page cache though direct I/O was asked for.
 *
 * XFS does so for parts of blocks that are shared, and for the edges of a range
 * that is to be zero. Whether there is room for them it learns when the pages
 * are written. By then we would have reported success; what was there before
 * would come back, and the pages would stay, as if they had been written, for
 * the next write to a part of them. So they are written before the request
 * ends, and dropped, whether that fails or not: direct I/O likes none.
 *
 * An error is told once, to the first who waits for these pages: a neighbour in
 * the same page, a direct read that wants them written, a flush. Requests that
 * were under way then fail as well, for one of them is meant.
 *
 * Locks: loop_copy_file.settling, in workers; the file system's below it, as far
 * as writing pages takes them.
 */
#include <linux/pagemap.h>

#include "loop-copy.h"

/**
 * loop_copy_lost() - what loop_copy_settle() compares with
 * @f: the file
 *
 * Return: a count, to be asked for before the file system is called.
 */
unsigned int loop_copy_lost(struct loop_copy_file *f)
{
	/* Pairs with the release in lose(). */
	return smp_load_acquire(&f->lost);
}

static void lose(struct loop_copy_file *f, int err)
{
	lockdep_assert_held(&f->settling);
	WRITE_ONCE(f->lost_error, err);
	/* Before the pages go: whoever finds none has to see it. */
	smp_store_release(&f->lost, f->lost + 1);
	/* Pairs with the one in is_clean(). */
	smp_mb();
}

static bool is_clean(struct loop_copy_file *f, unsigned int lost)
{
	if (READ_ONCE(f->data->f_mapping->nrpages))
		return false;
	/* Pairs with the one in lose(). */
	smp_mb();
	return loop_copy_lost(f) == lost;
}

static int settle(struct loop_copy_file *f, loff_t pos, u64 len,
		  unsigned int lost, ssize_t ret)
{
	struct address_space *mapping = f->data->f_mapping;
	int err;

	mutex_lock(&f->settling);
	err = filemap_write_and_wait_range(mapping, pos, pos + len - 1);
	if (err || ret < 0)
		lose(f, err ?: ret);
	else if (f->lost != lost)
		err = f->lost_error;
	invalidate_inode_pages2_range(mapping, pos >> PAGE_SHIFT,
				      (pos + len - 1) >> PAGE_SHIFT);
	mutex_unlock(&f->settling);
	return err;
}

/**
 * loop_copy_settle() - make sure that what was done will stay
 * @f: the file
 * @write: it was written to; reads write what they find dirty
 * @pos: where, in bytes
 * @len: how much
 * @lost: of loop_copy_lost()
 * @ret: what the file system has returned
 *
 * Context: a worker. Return: @ret, or a negative error.
 */
ssize_t loop_copy_settle(struct loop_copy_file *f, bool write, loff_t pos,
			 u64 len, unsigned int lost, ssize_t ret)
{
	int err;

	if (!f->direct || ret == -EIOCBQUEUED || ret == -EINVAL ||
	    (ret >= 0 && !write))
		return ret;
	if (!is_clean(f, lost)) {
		err = settle(f, pos, len, lost, ret);
		if (ret >= 0)
			ret = err ?: ret;
	}
	if (ret < 0 && write)
		loop_copy_put_back(f, pos, len);
	return ret;
}
