// SPDX-License-Identifier: GPL-2.0-only
/*
 * A piece by reading and writing, past the page cache. Takes no locks.
 */
#include <linux/bio.h>
#include <linux/slab.h>

#include "blk-copy.h"

static int blk_copy_get_buffer(struct blk_copy_buffer *buf)
{
	unsigned int wanted = BLK_COPY_BUFFER >> PAGE_SHIFT;

	if (buf->pages)
		return 0;
	buf->pages = kcalloc(wanted, sizeof(*buf->pages), GFP_KERNEL);
	if (!buf->pages)
		return -ENOMEM;
	while (buf->nr < wanted) {
		/* With less memory it takes longer, but it works with one. */
		gfp_t gfp = GFP_KERNEL | (buf->nr ? __GFP_NORETRY |
						    __GFP_NOWARN : 0);
		struct page *page = alloc_page(gfp);

		if (!page)
			break;
		buf->pages[buf->nr++] = page;
	}
	if (buf->nr)
		return 0;
	kfree(buf->pages);
	buf->pages = NULL;
	return -ENOMEM;
}

/**
 * blk_copy_free_buffer() - free what blk_copy_read() may have allocated
 * @buf: the buffer
 */
void blk_copy_free_buffer(struct blk_copy_buffer *buf)
{
	while (buf->nr)
		__free_page(buf->pages[--buf->nr]);
	kfree(buf->pages);
	buf->pages = NULL;
}

static int blk_copy_transfer(struct block_device *bdev, enum req_op op, u64 pos,
			     u64 len, struct blk_copy_buffer *buf)
{
	unsigned int i, nr = DIV_ROUND_UP(len, PAGE_SIZE);
	struct bio *bio = bio_alloc(bdev, nr, op | REQ_SYNC, GFP_KERNEL);
	int err;

	bio->bi_iter.bi_sector = pos >> SECTOR_SHIFT;
	for (i = 0; i < nr; i++, len -= PAGE_SIZE)
		__bio_add_page(bio, buf->pages[i],
			       min_t(u64, len, PAGE_SIZE), 0);
	err = submit_bio_wait(bio);
	bio_put(bio);
	return err;
}

/**
 * blk_copy_read() - read the beginning of what is left
 * @req: the request; what is left begins at @req->done
 * @buf: zeroed before the first call
 * @len: set: bytes read
 *
 * Return: 0 or a negative error.
 */
int blk_copy_read(const struct blk_copy_request *req,
		  struct blk_copy_buffer *buf, u64 *len)
{
	unsigned int block = max(bdev_logical_block_size(req->src),
				 bdev_logical_block_size(req->dst));
	int err = blk_copy_get_buffer(buf);

	if (err)
		return err;
	*len = min_t(u64, req->len - req->done, (u64)buf->nr << PAGE_SHIFT);
	*len = rounddown(*len, block);
	if (!*len)
		return -ENOMEM;
	return blk_copy_transfer(req->src, REQ_OP_READ,
				 req->src_pos + req->done, *len, buf);
}

/**
 * blk_copy_write() - write what blk_copy_read() has read
 * @req: the same request
 * @buf: the same buffer
 * @len: bytes
 *
 * After an error it is unknown how much of these bytes has been written; none of
 * them count as done.
 *
 * Return: 0 or a negative error.
 */
int blk_copy_write(const struct blk_copy_request *req,
		   struct blk_copy_buffer *buf, u64 len)
{
	return blk_copy_transfer(req->dst, REQ_OP_WRITE,
				 req->dst_pos + req->done, len, buf);
}
