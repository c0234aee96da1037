// SPDX-License-Identifier: GPL-2.0-only
/*
 * I/O that the store cannot do as it is: parts of its blocks, memory it does
 * not like. It goes through a buffer.
 *
 * A write of a part of a block reads the block, changes it and writes it back,
 * holding the guest cluster. On a store where that can happen all other writes
 * hold theirs too (qcow2_align_holds()), so none is lost. On others nothing is
 * read for it, whatever the stores of images below need.
 *
 * Takes no locks; what it calls does.
 */
#include "io.h"

/**
 * qcow2_align_fetch() - read guest bytes into a buffer
 * @rq: the request
 * @pos: guest offset in bytes, aligned to the stores
 * @len: how many, the same
 * @buf: the buffer
 *
 * Context: a worker; waits for the I/O. Return: 0 or a negative error.
 */
int qcow2_align_fetch(struct qcow2_request *rq, u64 pos, u64 len,
		      struct qcow2_buf *buf)
{
	struct qcow2_map *m = &rq->dev->map;
	u64 done, whole;
	struct qcow2_extent e;
	int r = 0;

	for (done = 0; !r && done < len; done += whole) {
		r = qcow2_map_get(m, pos + done, len - done, &e);
		if (r)
			break;
		r = qcow2_extent_fetch(m, &e, buf, done, rq->how);
		/*
		 * A raw image below ends where it likes. Not from inside a
		 * sector: it may have been written meanwhile.
		 */
		whole = min(round_up(e.len, SECTOR_SIZE), len - done);
		qcow2_buf_zero(buf, done + e.len, whole - e.len);
		qcow2_map_put(m, e.pin);
	}
	return r;
}

/**
 * qcow2_align_read() - read a bio through a buffer, from rq->pos on
 * @rq: its request; pos moves on
 * @bio: the bio
 * @start: its guest offset in bytes
 * @end: where to stop
 *
 * Context: a worker; waits for the I/O. Return: 0 or a negative error.
 */
int qcow2_align_read(struct qcow2_request *rq, struct bio *bio, u64 start,
		     u64 end)
{
	struct qcow2_bufs *bufs = &rq->dev->image.bufs;
	u64 align = rq->dev->map.align, from, to, len;
	struct qcow2_buf *buf;
	int r = 0;

	len = round_up(end, align) - round_down(rq->pos, align);
	buf = qcow2_buf_get(bufs, min_t(u64, len, QCOW2_BUF_SIZE),
			    QCOW2_BUF_BOUNCE);
	while (!r && rq->pos < end) {
		from = round_down(rq->pos, align);
		to = min(round_up(end, align), from + QCOW2_BUF_SIZE);
		r = qcow2_align_fetch(rq, from, to - from, buf);
		len = min(to, end) - rq->pos;
		if (!r)
			qcow2_buf_to_bio(buf, rq->pos - from, bio,
					 rq->pos - start, len);
		rq->pos += len;
	}
	qcow2_buf_put(bufs, buf);
	return r;
}

/* What a write is made whole to. */
static u64 align_unit(const struct qcow2_device *d)
{
	return qcow2_align_holds(d) ? d->map.align : SECTOR_SIZE;
}

/* Gets what a write does not cover of its blocks. */
static int align_complete(struct qcow2_request *rq, u64 from, u64 to, u64 end,
			  struct qcow2_buf *buf)
{
	if (from == rq->pos && to <= end)
		return 0;
	return qcow2_align_fetch(rq, from, to - from, buf);
}

/* One buffer full, inside one guest cluster, which the part holds. */
static int align_write_chunk(struct qcow2_part *p, struct bio *bio, u64 start,
			     u64 end)
{
	struct qcow2_request *rq = p->rq;
	struct qcow2_device *d = rq->dev;
	u64 align = align_unit(d), pos = rq->pos, from, to, len;
	int r;

	from = round_down(pos, align);
	to = min(round_up(end, align), from + QCOW2_BUF_SIZE);
	to = min(to, (from | (qcow2_cluster(&d->image.layer) - 1)) + 1);
	len = min(to, end) - pos;
	p->buf = qcow2_buf_get(&d->image.bufs, to - from, QCOW2_BUF_BOUNCE);
	r = align_complete(rq, from, to, end, p->buf);
	if (r) {
		qcow2_request_error(rq, r);
		qcow2_part_end(p);
		return r;
	}
	if (bio)
		qcow2_buf_from_bio(p->buf, pos - from, bio, pos - start, len);
	else
		qcow2_buf_zero(p->buf, pos - from, len);
	rq->pos += len;
	return qcow2_write_buf(p, from, to);
}

/**
 * qcow2_align_write() - write a bio, or zeros, through buffers, from rq->pos on
 * @rq: its request; pos moves on
 * @bio: the bio, or NULL for zeros
 * @start: its guest offset in bytes
 * @end: where to stop
 *
 * Context: a worker. Return: as qcow2_write_bio().
 */
int qcow2_align_write(struct qcow2_request *rq, struct bio *bio, u64 start,
		      u64 end)
{
	unsigned int bits = rq->dev->image.layer.geo.cluster_bits;
	struct qcow2_part *p;
	int r = 0;
	u64 at;

	while (!r && !READ_ONCE(rq->error) && rq->pos < end) {
		at = rq->pos >> bits;
		p = qcow2_part_new(rq);
		if (!qcow2_change_hold(&p->change, &rq->parked, at, at)) {
			qcow2_part_end(p);
			return QCOW2_PARKED;
		}
		r = align_write_chunk(p, bio, start, end);
	}
	return r;
}
