// SPDX-License-Identifier: GPL-2.0-only
/*
 * A piece of a copy: shared where the file system can, handed down where it
 * copies by itself (NFS), and read and written elsewhere, in larger parts than
 * copy_file_range would.
 *
 * Locks: see settle.c.
 */
#include <linux/bvec.h>
#include <linux/mm.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "loop-copy.h"

/* What is copied before somebody is asked whether to go on. */
#define SHARED_CHUNK	SZ_64M
#define COPIED_CHUNK	SZ_8M
#define MOVED_CHUNK	SZ_1M

/**
 * struct copier - a piece on its way
 * @src: the disk that it comes from
 * @dst: the disk that it goes to
 * @op: the piece
 * @buf: memory for reading and writing; NULL until it is needed
 */
struct copier {
	struct loop_copy *src;
	struct loop_copy *dst;
	struct blk_copy_op *op;
	struct loop_copy_buf *buf;
};

/**
 * struct loop_copy_buf - memory for reading and writing
 * @nr: how many pages
 * @pages: the pages
 */
struct loop_copy_buf {
	unsigned int nr;
	struct bio_vec pages[MOVED_CHUNK >> PAGE_SHIFT];
};

static loff_t src_pos(const struct copier *c)
{
	return c->op->src + c->op->done;
}

static loff_t dst_pos(const struct copier *c)
{
	return c->op->dst + c->op->done;
}

/* Whole blocks up to the end of a file that may have shrunk. */
static u64 room(const struct copier *c)
{
	u32 block = queue_logical_block_size(c->dst->disk->queue);
	loff_t end = round_down(loop_copy_file_size(&c->dst->file),
				(loff_t)block);

	return dst_pos(c) < end ? end - dst_pos(c) : 0;
}

static u64 left(const struct copier *c, u64 most)
{
	return min3(most, c->op->len - c->op->done, room(c));
}

static struct loop_copy_buf *new_buf(void)
{
	struct loop_copy_buf *buf = kzalloc(sizeof(*buf), GFP_NOIO);

	while (buf && buf->nr < ARRAY_SIZE(buf->pages)) {
		/* With less memory it takes longer, but it works with one. */
		gfp_t gfp = GFP_NOIO | (buf->nr ? __GFP_NORETRY |
						   __GFP_NOWARN : 0);
		struct page *page = alloc_page(gfp);

		if (!page)
			break;
		bvec_set_page(&buf->pages[buf->nr++], page, PAGE_SIZE, 0);
	}
	if (!buf || buf->nr)
		return buf;
	kfree(buf);
	return NULL;
}

static void free_buf(struct loop_copy_buf *buf)
{
	while (buf && buf->nr)
		__free_page(buf->pages[--buf->nr].bv_page);
	kfree(buf);
}

static int get_buf(struct copier *c)
{
	if (!c->buf)
		c->buf = xchg(&c->dst->spare, NULL);
	if (!c->buf)
		c->buf = new_buf();
	return c->buf ? 0 : -ENOMEM;
}

/* Kept for the next piece: pages are cleared when they are got. */
static void put_buf(struct copier *c)
{
	if (c->buf)
		free_buf(xchg(&c->dst->spare, c->buf));
}

/**
 * loop_copy_free_spare() - free what copies have left behind
 * @lc: the disk, which has no requests any more
 */
void loop_copy_free_spare(struct loop_copy *lc)
{
	free_buf(lc->spare);
}

static ssize_t rw_once(struct copier *c, struct file *file, bool write,
		       loff_t pos, size_t len)
{
	return loop_copy_file_rw(file, write, pos, c->buf->pages, c->buf->nr,
				 len);
}

static ssize_t rw(struct copier *c, struct loop_copy *lc, bool write,
		  loff_t pos, size_t len)
{
	ssize_t ret = rw_once(c, lc->file.data, write, pos, len);

	/* Not aligned as direct I/O has it here. */
	if (ret == -EINVAL && lc->file.direct)
		ret = rw_once(c, lc->file.meta, write, pos, len);
	return ret;
}

static ssize_t write_settled(struct copier *c, loff_t pos, size_t len)
{
	struct loop_copy_file *f = &c->dst->file;
	errseq_t since = loop_copy_mark(f);
	ssize_t ret = rw(c, c->dst, true, pos, len);

	ret = loop_copy_settle(f, pos, len, since, ret);
	if (ret < 0 && loop_copy_leaves(f, pos, len))
		loop_copy_put_back(f, pos, len);
	return ret;
}

/* To where sharing may begin, if it ever may. */
static u64 to_move(const struct copier *c)
{
	u32 block = loop_copy_fs_block(&c->dst->file);
	u32 begun = dst_pos(c) & (block - 1);
	u32 room = c->buf->nr << PAGE_SHIFT;

	if (loop_copy_may_share(&c->dst->file) && begun &&
	    begun == (src_pos(c) & (block - 1)))
		room = min(room, block - begun);
	return left(c, room);
}

static ssize_t move(struct copier *c)
{
	u32 block = queue_logical_block_size(c->dst->disk->queue);
	ssize_t ret = get_buf(c);

	if (ret)
		return ret;
	ret = rw(c, c->src, false, src_pos(c), to_move(c));
	if (ret < 0)
		return ret;
	/* What there is of a file that has shrunk. */
	ret = rounddown(ret, block);
	return ret ? write_settled(c, dst_pos(c), ret) : 0;
}

static ssize_t share(struct copier *c)
{
	u64 len = left(c, SHARED_CHUNK);

	if (!loop_copy_may_share(&c->dst->file) || !c->src->file.exact)
		return -EOPNOTSUPP;
	/* Nothing would mean all that there is. */
	if (!len)
		return 0;
	return vfs_clone_file_range(c->src->file.data, src_pos(c),
				    c->dst->file.data, dst_pos(c), len,
				    REMAP_FILE_CAN_SHORTEN);
}

/* Overlayfs would read and write as it likes; what that leaves is not known. */
static ssize_t hand_down(struct copier *c)
{
	struct loop_copy_file *f = &c->dst->file;

	if (!f->data->f_op->copy_file_range ||
	    file_inode(f->data) != loop_copy_inode(f))
		return -EOPNOTSUPP;
	return vfs_copy_file_range(c->src->file.data, src_pos(c), f->data,
				   dst_pos(c), left(c, COPIED_CHUNK), 0);
}

/* Not this way; whether another one goes is to be seen. */
static bool not_so(ssize_t ret)
{
	return !ret || ret == -EOPNOTSUPP || ret == -EINVAL || ret == -EXDEV;
}

static ssize_t copy_chunk(struct copier *c)
{
	ssize_t ret = share(c);

	if (not_so(ret))
		ret = hand_down(c);
	if (not_so(ret))
		ret = move(c);
	return ret;
}

static bool inside(const struct loop_copy *lc, u64 pos, u64 len)
{
	u64 size = get_capacity(lc->disk) << SECTOR_SHIFT;

	return len <= size && pos <= size - len;
}

/**
 * loop_copy_copy() - copy a piece
 * @dst: the disk that it goes to
 * @op: the piece; op->done is set
 *
 * Context: a worker, with memalloc_noio_save(). Return: 0 or a negative error.
 */
int loop_copy_copy(struct loop_copy *dst, struct blk_copy_op *op)
{
	struct copier c = { .src = op->src_disk->private_data, .dst = dst,
			    .op = op };
	ssize_t ret = 1;

	/* A disk may have shrunk since; the file would grow again. */
	if (!inside(c.src, op->src, op->len) || !inside(dst, op->dst, op->len))
		return -EIO;
	WRITE_ONCE(dst->file.written, true);
	while (op->done < op->len && ret > 0) {
		ret = blk_copy_cancelled(op) ? -EINTR : copy_chunk(&c);
		if (ret > 0)
			op->done += ret;
		cond_resched();
	}
	put_buf(&c);
	if (op->done == op->len)
		return 0;
	/* Half a block is not done. */
	op->done = rounddown(op->done, queue_logical_block_size(dst->disk->queue));
	/* Nothing at all is the end of a file that has shrunk. */
	return ret ?: -EIO;
}
