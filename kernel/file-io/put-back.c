// SPDX-License-Identifier: GPL-2.0-only
/*
 * What XFS leaves of a direct write that fails on the way, of ENOSPC for
 * instance, where blocks were shared: blocks of its copy-on-write fork that have
 * been written and do not belong to the file. A later write to a part of such a
 * block, if there is a hole in the file, takes the rest from there instead of
 * zeros. Writing what the file holds, one block at a time, uses them up; where
 * there is none and no room, it fails again. A hole is filled if there is room,
 * as the write would have done.
 *
 * Other writes to the same sectors that are under way may be undone by that, as
 * if they had been before the one that failed.
 *
 * Locks: see settle.c. Nobody may hold the file system's freeze protection.
 */
#include <linux/bvec.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/sched.h>

#include "file-io.h"

/*
 * The first may be told of an error of somebody else's, in what it finds in the
 * page cache.
 */
static ssize_t file_io_rw_block(struct file *file, bool write, loff_t pos,
				const struct bio_vec *bv)
{
	ssize_t ret = file_io_rw(file, write, pos, bv, 1, bv->bv_len);

	return ret < 0 ? file_io_rw(file, write, pos, bv, 1, bv->bv_len) : ret;
}

/* What is broken below would only take its time to say so once more. */
static bool file_io_goes_on(ssize_t ret, unsigned int block)
{
	return ret == block || ret == -ENOSPC || ret == -EDQUOT;
}

/**
 * file_io_leaves() - whether a write that fails may leave something behind
 * @f: the file
 * @pos: where, in bytes
 * @len: how much
 *
 * Return: true if file_io_put_back() is called for. Only whole blocks are
 * written directly.
 */
bool file_io_leaves(const struct file_io *f, loff_t pos, u64 len)
{
	return f->direct && READ_ONCE(f->shares) && len &&
	       file_io_inode(f)->i_sb->s_magic == XFS_SUPER_MAGIC &&
	       !((pos | len) & (file_io_block(f) - 1));
}

/**
 * file_io_put_back() - clean up after a direct write that has failed
 * @f: the file
 * @pos: where, in bytes
 * @len: how much
 *
 * Context: a worker.
 */
void file_io_put_back(struct file_io *f, loff_t pos, u64 len)
{
	unsigned int block = file_io_block(f);
	u64 since = file_io_mark(f);
	ssize_t ret = block;
	struct bio_vec bv;
	struct page *page;
	loff_t at;

	page = alloc_pages(GFP_NOIO | __GFP_NOWARN, get_order(block));
	if (!page) {
		pr_warn_ratelimited("%pD: no memory to clean up after a failed write\n",
				    f->meta);
		return;
	}
	bvec_set_page(&bv, page, block, 0);
	for (at = pos; at < pos + len && file_io_goes_on(ret, block);
	     at += block) {
		ret = file_io_rw_block(f->data, false, at, &bv);
		if (ret != block)
			break;
		ret = file_io_rw_block(f->data, true, at, &bv);
		cond_resched();
	}
	__free_pages(page, get_order(block));
	/* Should direct I/O not have been possible after all. */
	file_io_settle(f, pos, len, since, 0);
}
