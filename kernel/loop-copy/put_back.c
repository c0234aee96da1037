// SPDX-License-Identifier: GPL-2.0-only
/*
 * What XFS leaves of a direct write that fails on the way, of ENOSPC for
 * instance, where blocks were shared: blocks of its copy-on-write fork that have
 * been written and do not belong to the file. A later write to a part of such a
 * block, if there is a hole in the file, takes the rest from there instead of
 * zeros. Writing what the file holds, one block at a time, uses them up; where
 * there is none it fails again.
 *
 * Other writes to the same sectors that are under way may be undone by that, as
 * if they had been before the one that failed. Takes no locks.
 */
#include <linux/bvec.h>
#include <linux/mm.h>
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

/**
 * loop_copy_put_back() - clean up after a direct write that has failed
 * @f: the file
 * @pos: where, in bytes
 * @len: how much
 *
 * Only whole blocks are written directly. Context: a worker.
 */
void loop_copy_put_back(struct loop_copy_file *f, loff_t pos, u64 len)
{
	unsigned int block = i_blocksize(file_inode(f->data));
	struct page *page;
	loff_t at;

	if (!f->direct || !f->shares || (pos | len) & (block - 1))
		return;
	page = alloc_pages(GFP_NOIO | __GFP_NOWARN, get_order(block));
	if (!page)
		return;
	for (at = pos; at < pos + len; at += block)
		if (rw_block(f->data, false, page, at, block) == block)
			rw_block(f->data, true, page, at, block);
	__free_pages(page, get_order(block));
}
