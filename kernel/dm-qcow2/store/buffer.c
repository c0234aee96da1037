// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory between a bio and a store, or one place of a store and another.
 *
 * There is always memory for one buffer of each use: bufs.emergency, handed to
 * one user at a time. Takes no locks.
 */
#include "store.h"

#include <linux/highmem.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>

static void buffer_give_pages(struct qcow2_buf *buf)
{
	u32 i;

	for (i = 0; i < QCOW2_BUF_PAGES && buf->bv[i].bv_page; i++)
		__free_page(buf->bv[i].bv_page);
}

static bool buffer_get_pages(struct qcow2_buf *buf, u64 len, gfp_t gfp)
{
	struct page *page;
	u32 i;

	for (i = 0; i < DIV_ROUND_UP(len, PAGE_SIZE); i++) {
		page = alloc_page(gfp);
		if (!page)
			return false;
		bvec_set_page(&buf->bv[i], page, PAGE_SIZE, 0);
	}
	return true;
}

/**
 * qcow2_bufs_init() - get the memory that is always there
 * @bufs: the memory
 *
 * Return: 0 or -ENOMEM.
 */
int qcow2_bufs_init(struct qcow2_bufs *bufs)
{
	u32 i;

	for (i = 0; i < QCOW2_ZERO_PAGES; i++)
		bvec_set_page(&bufs->zero_bv[i], ZERO_PAGE(0), PAGE_SIZE, 0);
	for (i = 0; i < QCOW2_BUF_USES; i++) {
		bufs->emergency[i].use = i;
		if (!buffer_get_pages(&bufs->emergency[i], QCOW2_BUF_SIZE, GFP_KERNEL))
			return -ENOMEM;
	}
	return 0;
}

/**
 * qcow2_bufs_exit() - undo qcow2_bufs_init(), whole or half done
 * @bufs: the memory
 */
void qcow2_bufs_exit(struct qcow2_bufs *bufs)
{
	u32 i;

	for (i = 0; i < QCOW2_BUF_USES; i++)
		buffer_give_pages(&bufs->emergency[i]);
}

/**
 * qcow2_buf_get() - get a buffer
 * @bufs: the memory
 * @len: bytes, at most QCOW2_BUF_SIZE
 * @use: what for
 *
 * Context: a worker that has none for this use yet.
 * Return: the buffer, never NULL.
 */
struct qcow2_buf *qcow2_buf_get(struct qcow2_bufs *bufs, u64 len,
				enum qcow2_buf_use use)
{
	gfp_t gfp = GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN;
	struct qcow2_buf *buf = kzalloc(sizeof(*buf), gfp);

	if (buf)
		buf->use = use;
	if (buf && buffer_get_pages(buf, len, gfp))
		return buf;
	if (buf) {
		buffer_give_pages(buf);
		kfree(buf);
	}
	wait_on_bit_lock_io(&bufs->busy, use, TASK_UNINTERRUPTIBLE);
	return &bufs->emergency[use];
}

/**
 * qcow2_buf_put() - give a buffer back
 * @bufs: the memory
 * @buf: the buffer
 *
 * Context: any.
 */
void qcow2_buf_put(struct qcow2_bufs *bufs, struct qcow2_buf *buf)
{
	if (buf == &bufs->emergency[buf->use]) {
		clear_and_wake_up_bit(buf->use, &bufs->busy);
		return;
	}
	buffer_give_pages(buf);
	kfree(buf);
}

/**
 * qcow2_buf_zero() - clear a part of a buffer
 * @buf: the buffer
 * @skip: byte offset of the part
 * @len: bytes
 */
void qcow2_buf_zero(struct qcow2_buf *buf, u64 skip, u64 len)
{
	while (len) {
		u32 at = skip & (PAGE_SIZE - 1);
		u32 part = min_t(u64, len, PAGE_SIZE - at);

		memzero_page(buf->bv[skip >> PAGE_SHIFT].bv_page, at, part);
		skip += part;
		len -= part;
	}
}

/**
 * qcow2_buf_copy() - copy from one buffer to another
 * @dst: where to
 * @to: byte offset there
 * @src: where from
 * @from: byte offset there
 * @len: bytes
 */
void qcow2_buf_copy(struct qcow2_buf *dst, u64 to, const struct qcow2_buf *src,
		    u64 from, u64 len)
{
	while (len) {
		u32 at = to & (PAGE_SIZE - 1), of = from & (PAGE_SIZE - 1);
		u32 part = min_t(u64, len, PAGE_SIZE - max(at, of));

		memcpy_page(dst->bv[to >> PAGE_SHIFT].bv_page, at,
			    src->bv[from >> PAGE_SHIFT].bv_page, of, part);
		to += part;
		from += part;
		len -= part;
	}
}

/* Copies between a buffer, from @skip on, and a bio, from @from on. */
static void buffer_bio(struct qcow2_buf *buf, u64 skip, struct bio *bio, u64 from,
		       u64 len, bool to_bio)
{
	struct bvec_iter start = bio->bi_iter, iter;
	struct bio_vec bv;
	u32 at, part, left;
	char *mem, *p;

	bvec_iter_advance(bio->bi_io_vec, &start, from);
	start.bi_size = len;
	__bio_for_each_segment(bv, bio, iter, start) {
		mem = bvec_kmap_local(&bv);
		/* The iterator goes on by bv.bv_len: leave that as it is. */
		left = bv.bv_len;
		for (p = mem; left; p += part, left -= part) {
			at = skip & (PAGE_SIZE - 1);
			part = min_t(u32, left, PAGE_SIZE - at);
			if (to_bio)
				memcpy_from_page(p, buf->bv[skip >> PAGE_SHIFT].bv_page,
						 at, part);
			else
				memcpy_to_page(buf->bv[skip >> PAGE_SHIFT].bv_page,
					       at, p, part);
			skip += part;
		}
		kunmap_local(mem);
	}
}

/**
 * qcow2_buf_to_bio() - copy from a buffer to the memory of a bio
 * @buf: the buffer
 * @skip: byte offset in it
 * @bio: the bio
 * @from: byte offset in it
 * @len: bytes
 */
void qcow2_buf_to_bio(struct qcow2_buf *buf, u64 skip, struct bio *bio,
		      u64 from, u64 len)
{
	buffer_bio(buf, skip, bio, from, len, true);
}

/**
 * qcow2_buf_from_bio() - copy from the memory of a bio to a buffer
 * @buf: the buffer
 * @skip: byte offset in it
 * @bio: the bio
 * @from: byte offset in it
 * @len: bytes
 */
void qcow2_buf_from_bio(struct qcow2_buf *buf, u64 skip, struct bio *bio,
			u64 from, u64 len)
{
	buffer_bio(buf, skip, bio, from, len, false);
}
