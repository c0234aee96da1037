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
 * if they had been before the one that failed. Takes no locks; nobody may hold
 * the file system's freeze protection.
 */
#include <linux/bvec.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/uio.h>

#include "loop-copy.h"

static ssize_t rw_block(struct file *file, bool write, struct page *page,
			loff_t pos, unsigned int block)
{
	struct iov_iter iter;
	struct kiocb iocb;
	struct bio_vec bv;
	ssize_t ret;

	init_sync_kiocb(&iocb, file);
	iocb.ki_pos = pos;
	bvec_set_page(&bv, page, block, 0);
	iov_iter_bvec(&iter, write ? ITER_SOURCE : ITER_DEST, &bv, 1, block);
	if (!write)
		return file->f_op->read_iter(&iocb, &iter);
	iocb.ki_flags |= IOCB_WRITE;
	file_start_write(file);
	ret = file->f_op->write_iter(&iocb, &iter);
	file_end_write(file);
	return ret;
}

/*
 * The first may be told of an error of somebody else's, in what it finds in the
 * page cache.
 */
static ssize_t rw_block_twice(struct file *file, bool write, struct page *page,
			      loff_t pos, unsigned int block)
{
	ssize_t ret = rw_block(file, write, page, pos, block);

	return ret < 0 ? rw_block(file, write, page, pos, block) : ret;
}

/* What is broken below would only take its time to say so once more. */
static bool goes_on(ssize_t ret, unsigned int block)
{
	return ret == block || ret == -ENOSPC || ret == -EDQUOT;
}

/**
 * loop_copy_leaves() - whether a write that fails may leave something behind
 * @f: the file
 * @pos: where, in bytes
 * @len: how much
 *
 * Return: true if loop_copy_put_back() is called for. Only whole blocks are
 * written directly.
 */
bool loop_copy_leaves(const struct loop_copy_file *f, loff_t pos, u64 len)
{
	struct inode *inode = loop_copy_inode(f);

	return f->direct && f->shares && len &&
	       inode->i_sb->s_magic == XFS_SUPER_MAGIC &&
	       !((pos | len) & (i_blocksize(inode) - 1));
}

/**
 * loop_copy_put_back() - clean up after a direct write that has failed
 * @f: the file
 * @pos: where, in bytes
 * @len: how much
 *
 * Context: a worker.
 */
void loop_copy_put_back(struct loop_copy_file *f, loff_t pos, u64 len)
{
	unsigned int block = i_blocksize(loop_copy_inode(f));
	ssize_t ret = block;
	struct page *page;
	loff_t at;

	page = alloc_pages(GFP_NOIO | __GFP_NOWARN, get_order(block));
	if (!page)
		return;
	for (at = pos; at < pos + len && goes_on(ret, block); at += block) {
		ret = rw_block_twice(f->data, false, page, at, block);
		if (ret != block)
			break;
		ret = rw_block_twice(f->data, true, page, at, block);
		cond_resched();
	}
	__free_pages(page, get_order(block));
	/* Should direct I/O not have been possible after all. */
	loop_copy_settle(f, pos, len, loop_copy_mark(f));
}
