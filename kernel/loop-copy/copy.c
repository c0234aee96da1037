// SPDX-License-Identifier: GPL-2.0-only
/*
 * A piece of a copy: shared where the file system can, handed down where it
 * copies by itself (NFS), and read and written elsewhere, in larger parts than
 * copy_file_range would.
 *
 * Takes no locks; file-io does.
 */
#include <linux/bvec.h>
#include <linux/mm.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "copy.h"

/* What is copied before somebody is asked whether to go on. */
#define LOOP_COPY_SHARED_CHUNK	SZ_64M
#define LOOP_COPY_COPIED_CHUNK	SZ_8M
#define LOOP_COPY_MOVED_CHUNK	SZ_1M

/**
 * struct loop_copy_copier - a piece on its way
 */
struct loop_copy_copier {
	/** @src: where it comes from */
	struct loop_copy_backing *src;
	/** @dst: where it goes to */
	struct loop_copy_backing *dst;
	/** @op: the piece */
	struct blk_copy_op *op;
	/** @buf: memory for reading and writing; NULL until it is needed */
	struct loop_copy_buf *buf;
};

/**
 * struct loop_copy_buf - memory for reading and writing
 */
struct loop_copy_buf {
	/** @nr: how many pages */
	unsigned int nr;
	/** @pages: the pages */
	struct bio_vec pages[LOOP_COPY_MOVED_CHUNK >> PAGE_SHIFT];
};

static loff_t loop_copy_src_pos(const struct loop_copy_copier *c)
{
	return c->op->src + c->op->done;
}

static loff_t loop_copy_dst_pos(const struct loop_copy_copier *c)
{
	return c->op->dst + c->op->done;
}

/* Whole blocks up to the end of a file that may have shrunk. */
static u64 loop_copy_room(const struct loop_copy_copier *c)
{
	u32 block = queue_logical_block_size(c->dst->disk->queue);
	loff_t end = round_down(file_io_size(&c->dst->file),
				(loff_t)block);

	return loop_copy_dst_pos(c) < end ? end - loop_copy_dst_pos(c) : 0;
}

static u64 loop_copy_left(const struct loop_copy_copier *c, u64 most)
{
	return min3(most, c->op->len - c->op->done, loop_copy_room(c));
}

static struct loop_copy_buf *loop_copy_new_buf(void)
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

static void loop_copy_free_buf(struct loop_copy_buf *buf)
{
	while (buf && buf->nr)
		__free_page(buf->pages[--buf->nr].bv_page);
	kfree(buf);
}

static int loop_copy_get_buf(struct loop_copy_copier *c)
{
	if (!c->buf)
		c->buf = xchg(&c->dst->spare, NULL);
	if (!c->buf)
		c->buf = loop_copy_new_buf();
	return c->buf ? 0 : -ENOMEM;
}

/* Kept for the next piece: pages are cleared when they are got. */
static void loop_copy_put_buf(struct loop_copy_copier *c)
{
	if (c->buf)
		loop_copy_free_buf(xchg(&c->dst->spare, c->buf));
}

/**
 * loop_copy_free_spare() - free what copies have left behind
 * @b: of the disk, which has no requests any more
 */
void loop_copy_free_spare(struct loop_copy_backing *b)
{
	loop_copy_free_buf(b->spare);
	b->spare = NULL;
}

/* To where sharing may begin, if it ever may. */
static u64 loop_copy_to_move(const struct loop_copy_copier *c)
{
	u32 block = file_io_block(&c->dst->file);
	u32 begun = loop_copy_dst_pos(c) & (block - 1);
	u32 room = c->buf->nr << PAGE_SHIFT;

	if (file_io_may_share(&c->dst->file) && begun &&
	    begun == (loop_copy_src_pos(c) & (block - 1)))
		room = min(room, block - begun);
	return loop_copy_left(c, room);
}

static ssize_t loop_copy_move(struct loop_copy_copier *c)
{
	u32 block = queue_logical_block_size(c->dst->disk->queue);
	ssize_t ret = loop_copy_get_buf(c);

	if (ret)
		return ret;
	ret = file_io_read(&c->src->file, loop_copy_src_pos(c), c->buf->pages,
			   c->buf->nr, loop_copy_to_move(c));
	if (ret < 0)
		return ret;
	/* What there is of a file that has shrunk. */
	ret = rounddown(ret, block);
	if (!ret)
		return 0;
	return file_io_write(&c->dst->file, loop_copy_dst_pos(c),
			     c->buf->pages, c->buf->nr, ret);
}

static ssize_t loop_copy_share(struct loop_copy_copier *c)
{
	u64 len = loop_copy_left(c, LOOP_COPY_SHARED_CHUNK);

	/* Nothing would mean all that there is. */
	if (!len)
		return 0;
	return file_io_share(&c->src->file, loop_copy_src_pos(c),
			     &c->dst->file, loop_copy_dst_pos(c), len);
}

static ssize_t loop_copy_hand_down(struct loop_copy_copier *c)
{
	return file_io_copy(&c->src->file, loop_copy_src_pos(c), &c->dst->file,
			    loop_copy_dst_pos(c),
			    loop_copy_left(c, LOOP_COPY_COPIED_CHUNK));
}

/* Not this way; whether another one goes is to be seen. */
static bool loop_copy_not_so(ssize_t ret)
{
	return !ret || ret == -EOPNOTSUPP || ret == -EINVAL || ret == -EXDEV;
}

static ssize_t loop_copy_copy_chunk(struct loop_copy_copier *c)
{
	ssize_t ret = loop_copy_share(c);

	if (loop_copy_not_so(ret))
		ret = loop_copy_hand_down(c);
	if (loop_copy_not_so(ret))
		ret = loop_copy_move(c);
	return ret;
}

static bool loop_copy_inside(const struct loop_copy_backing *b, u64 pos,
			     u64 len)
{
	u64 size = get_capacity(b->disk) << SECTOR_SHIFT;

	return len <= size && pos <= size - len;
}

/**
 * loop_copy_copy() - copy a piece
 * @src: where it comes from
 * @dst: where it goes to
 * @op: the piece; op->done is set
 *
 * Context: a worker, in file_io_scope_save(). Return: 0 or a negative error.
 */
int loop_copy_copy(struct loop_copy_backing *src, struct loop_copy_backing *dst,
		   struct blk_copy_op *op)
{
	struct loop_copy_copier c = { .src = src, .dst = dst, .op = op };
	ssize_t ret = 1;

	/* A disk may have shrunk since; the file would grow again. */
	if (!loop_copy_inside(src, op->src, op->len) || !loop_copy_inside(dst, op->dst, op->len))
		return -EIO;
	while (op->done < op->len && ret > 0) {
		ret = blk_copy_cancelled(op) ? -EINTR : loop_copy_copy_chunk(&c);
		if (ret > 0)
			op->done += ret;
		cond_resched();
	}
	loop_copy_put_buf(&c);
	if (op->done == op->len)
		return 0;
	/* Half a block is not done. */
	op->done = rounddown(op->done, queue_logical_block_size(dst->disk->queue));
	/* Nothing at all is the end of a file that has shrunk. */
	return ret ?: -EIO;
}
