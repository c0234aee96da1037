// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory between a bio and the store, for I/O that the store cannot do as it
 * is: parts of its blocks, memory it does not like; and for copy-on-write.
 *
 * A write of a part of a block reads the block, changes it and writes it back,
 * holding the guest cluster (range.c). On a store where that can happen all
 * other writes hold theirs too (qcow2_serialize()), so none is lost.
 *
 * There is always memory for one buffer of each use: image.emergency, handed
 * to one user at a time.
 */
#include "dm-qcow2.h"

#include <linux/slab.h>
#include <linux/wait_bit.h>

static void free_pages_of(struct qcow2_buf *buf)
{
	u32 i;

	for (i = 0; i < QCOW2_BUF_PAGES && buf->bv[i].bv_page; i++)
		__free_page(buf->bv[i].bv_page);
}

static bool fill_pages(struct qcow2_buf *buf, u64 len, gfp_t gfp)
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
 * qcow2_buf_init() - get the memory that is always there
 * @q: the image
 *
 * Return: 0 or -ENOMEM.
 */
int qcow2_buf_init(struct qcow2_image *q)
{
	u32 i;

	for (i = 0; i < QCOW2_ZERO_PAGES; i++)
		bvec_set_page(&q->zero_bv[i], ZERO_PAGE(0), PAGE_SIZE, 0);
	for (i = 0; i < QCOW2_BUF_USES; i++) {
		q->emergency[i].use = i;
		if (!fill_pages(&q->emergency[i], QCOW2_BUF_SIZE, GFP_KERNEL))
			return -ENOMEM;
	}
	return 0;
}

/**
 * qcow2_buf_exit() - undo qcow2_buf_init(), whole or half done
 * @q: the image
 */
void qcow2_buf_exit(struct qcow2_image *q)
{
	u32 i;

	for (i = 0; i < QCOW2_BUF_USES; i++)
		free_pages_of(&q->emergency[i]);
}

/**
 * qcow2_buf_get() - get a buffer
 * @q: the image
 * @len: bytes, at most QCOW2_BUF_SIZE
 * @use: what for
 *
 * Context: a worker that has none for this use yet.
 * Return: the buffer, never NULL.
 */
struct qcow2_buf *qcow2_buf_get(struct qcow2_image *q, u64 len,
				enum qcow2_buf_use use)
{
	gfp_t gfp = GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN;
	struct qcow2_buf *buf = kzalloc(sizeof(*buf), gfp);

	if (buf)
		buf->use = use;
	if (buf && fill_pages(buf, len, gfp))
		return buf;
	if (buf) {
		free_pages_of(buf);
		kfree(buf);
	}
	wait_on_bit_lock_io(&q->emergency_busy, use, TASK_UNINTERRUPTIBLE);
	return &q->emergency[use];
}

/**
 * qcow2_buf_put() - give a buffer back
 * @q: the image
 * @buf: the buffer
 *
 * Context: any.
 */
void qcow2_buf_put(struct qcow2_image *q, struct qcow2_buf *buf)
{
	if (buf == &q->emergency[buf->use]) {
		clear_and_wake_up_bit(buf->use, &q->emergency_busy);
		return;
	}
	free_pages_of(buf);
	kfree(buf);
}

static void buf_zero(struct qcow2_buf *buf, u64 skip, u64 len)
{
	while (len) {
		u32 at = skip & (PAGE_SIZE - 1);
		u32 part = min_t(u64, len, PAGE_SIZE - at);

		memzero_page(buf->bv[skip >> PAGE_SHIFT].bv_page, at, part);
		skip += part;
		len -= part;
	}
}

/* Copies between a buffer, from @skip on, and a bio, from @from on. */
static void buf_bio(struct qcow2_buf *buf, u64 skip, struct bio *bio, u64 from,
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

/* Reads guest bytes that one run of the mapping covers; returns how many. */
static s64 guest_read_run(struct qcow2_io *io, u64 pos, u64 len,
			  struct qcow2_buf *buf, u64 skip)
{
	struct qcow2_image *q = io->image;
	u32 inside = pos & (qcow2_cluster(q) - 1);
	struct qcow2_block *b = qcow2_l2_get(q, pos);
	enum qcow2_cluster_type type;
	u64 entry;
	int r = 0, idx;

	if (IS_ERR(b))
		return PTR_ERR(b);
	idx = __srcu_read_lock(&q->srcu);
	len = min_t(u64, len, qcow2_cluster(q) - inside);
	type = qcow2_l2_type(q, b, qcow2_l2_index(q, pos), &entry);
	qcow2_block_put(b);
	switch (type) {
	case QCOW2_CLUSTER_NORMAL:
		r = qcow2_store_rw(&q->store, false,
				   (entry & QCOW2_OFFSET_MASK) + inside,
				   buf->bv, skip, len, qcow2_io_how(io));
		break;
	case QCOW2_CLUSTER_INVALID:
	case QCOW2_CLUSTER_COMPRESSED:
		qcow2_report(q, pos >> q->geo.cluster_bits << 1,
			     "unusable L2 entry for guest offset", pos);
		r = -EIO;
		break;
	default:
		buf_zero(buf, skip, len);
	}
	__srcu_read_unlock(&q->srcu, idx);
	return r ?: (s64)len;
}

/* Reads guest bytes, aligned to the store, into a buffer. */
static int guest_read(struct qcow2_io *io, u64 pos, u64 len,
		      struct qcow2_buf *buf)
{
	u64 done = 0;
	s64 r = 0;

	while (r >= 0 && done < len) {
		r = guest_read_run(io, pos + done, len - done, buf, done);
		if (r > 0)
			done += r;
	}
	return r < 0 ? r : 0;
}

/**
 * qcow2_bounce_read() - read a bio through a buffer, from io.pos on
 * @io: its data
 *
 * Context: a worker; waits for the I/O.
 */
void qcow2_bounce_read(struct qcow2_io *io)
{
	struct qcow2_image *q = io->image;
	struct qcow2_buf *buf = qcow2_buf_get(q, QCOW2_BUF_SIZE,
					      QCOW2_BUF_BOUNCE);
	u64 align = q->store.align, from, to, len;
	int r = 0;

	while (!r && io->pos < io->end) {
		from = round_down(io->pos, align);
		to = min(round_up(io->end, align), from + QCOW2_BUF_SIZE);
		r = guest_read(io, from, to - from, buf);
		len = min(to, io->end) - io->pos;
		if (!r)
			buf_bio(buf, io->pos - from, qcow2_io_bio(io),
				io->pos - io->start, len, true);
		io->pos += len;
	}
	qcow2_buf_put(q, buf);
	qcow2_io_error(io, r);
}

/* One buffer full, inside one guest cluster, which the part holds. */
static u64 bounce_chunk(struct qcow2_io *io, struct qcow2_sub *sub, u64 end,
			bool zero)
{
	struct qcow2_image *q = io->image;
	u64 align = q->store.align, from, to, len, done;
	struct qcow2_src src = {};
	int r;

	from = round_down(io->pos, align);
	to = min(round_up(end, align), from + QCOW2_BUF_SIZE);
	to = min(to, (from | (qcow2_cluster(q) - 1)) + 1);
	len = min(to, end) - io->pos;
	sub->buf = qcow2_buf_get(q, to - from, QCOW2_BUF_BOUNCE);
	r = guest_read(io, from, to - from, sub->buf);
	if (r) {
		qcow2_io_error(io, r);
		qcow2_sub_free(sub);
		return 0;
	}
	if (zero)
		buf_zero(sub->buf, io->pos - from, len);
	else
		buf_bio(sub->buf, io->pos - from, qcow2_io_bio(io),
			io->pos - io->start, len, false);
	qcow2_write_step(io, sub, from, to, &src, &done);
	return done ? len : 0;
}

/**
 * qcow2_bounce_write() - write a bio, or zeros, through buffers
 * @io: its data; pos moves on
 * @end: where to stop
 * @zero: write zeros instead of the bio's bytes
 *
 * Context: a worker. Return: QCOW2_PARKED if another change of a cluster is
 * under way; @io must not be touched any more then.
 */
enum qcow2_progress qcow2_bounce_write(struct qcow2_io *io, u64 end, bool zero)
{
	struct qcow2_image *q = io->image;
	struct qcow2_sub *sub;
	u64 cluster;

	while (!READ_ONCE(io->error) && io->pos < end) {
		cluster = io->pos >> q->geo.cluster_bits;
		sub = qcow2_sub_new(io);
		if (!qcow2_range_lock(q, &sub->range, io, cluster, cluster)) {
			qcow2_sub_free(sub);
			return QCOW2_PARKED;
		}
		sub->locked = true;
		io->pos += bounce_chunk(io, sub, end, zero);
	}
	return QCOW2_GO_ON;
}

/**
 * qcow2_copy() - copy bytes inside the store
 * @q: the image
 * @from: byte offset
 * @to: byte offset
 * @len: bytes
 * @how: on whose behalf
 *
 * Offsets and length are aligned to the store. Context: a worker.
 * Return: 0 or a negative error.
 */
int qcow2_copy(struct qcow2_image *q, u64 from, u64 to, u64 len,
	       struct qcow2_how how)
{
	struct qcow2_buf *buf = qcow2_buf_get(q, QCOW2_BUF_SIZE, QCOW2_BUF_COPY);
	u64 part;
	int r = 0;

	for (; !r && len; len -= part, from += part, to += part) {
		part = min_t(u64, len, QCOW2_BUF_SIZE);
		r = qcow2_store_rw(&q->store, false, from, buf->bv, 0, part,
				   how);
		if (!r)
			r = qcow2_store_rw(&q->store, true, to, buf->bv, 0,
					   part, how);
	}
	qcow2_buf_put(q, buf);
	return r;
}

/**
 * qcow2_fill_zero() - write zeros to the store
 * @q: the image
 * @to: byte offset, aligned to the store
 * @len: bytes, aligned to the store
 * @how: on whose behalf
 *
 * Context: a worker. Return: 0 or a negative error.
 */
int qcow2_fill_zero(struct qcow2_image *q, u64 to, u64 len,
		    struct qcow2_how how)
{
	u64 part;
	int r = 0;

	for (; !r && len; len -= part, to += part) {
		part = min_t(u64, len, QCOW2_ZERO_PAGES * PAGE_SIZE);
		r = qcow2_store_rw(&q->store, true, to, q->zero_bv, 0, part,
				   how);
	}
	return r;
}
