// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writes in a worker: map says where to, what is written goes there, and then
 * the mapping is published.
 *
 * Takes no locks; what it calls does.
 */
#include "io.h"

/**
 * qcow2_write_reserve() - find where a part may write what it can in one piece
 * @p: a new part, which may hold a guest cluster and a buffer already
 * @pos: guest offset in bytes
 * @end: where the write ends
 * @unlocked: see struct qcow2_wish
 * @whole: see struct qcow2_wish
 * @e: filled in; kept by the part until that ends
 *
 * Context: a worker that does not hold image.srcu.
 * Return: 0; or as qcow2_map_reserve(), with the part gone, and an error noted.
 */
int qcow2_write_reserve(struct qcow2_part *p, u64 pos, u64 end, bool unlocked,
			bool whole, struct qcow2_extent *e)
{
	struct qcow2_request *rq = p->rq;
	struct qcow2_wish w = {
		.pos = pos, .end = end, .whole = whole, .how = rq->how,
		.unlocked = unlocked && !qcow2_align_holds(rq->dev),
	};
	int r = qcow2_map_reserve(&p->change, &rq->parked, &w, e);

	if (!r) {
		p->pin = e->pin;
		return 0;
	}
	if (r < 0)
		qcow2_request_error(rq, r);
	qcow2_part_end(p);
	return r;
}

/* Has a part write its bytes of a bio, with what is round them if need be. */
static void write_data(struct qcow2_part *p, struct bio *bio, u64 skip,
		       struct qcow2_extent *e)
{
	struct qcow2_change *c = &p->change;

	if (!c->whole) {
		qcow2_store_use_bio(&p->sio, bio, skip, e->len);
		return;
	}
	qcow2_buf_from_bio(c->whole, e->host - c->whole_at, bio, skip, e->len);
	qcow2_store_use_vec(&p->sio, c->whole->bv, c->whole_len);
	e->host = c->whole_at;
}

/**
 * qcow2_write_bio() - begin to write a bio, from rq->pos on
 * @rq: its request; pos moves on
 * @bio: the bio
 * @start: its guest offset in bytes
 *
 * Context: a worker. Return: 0; QCOW2_PARKED, and @rq must not be touched any
 * more then; or a negative error, which is noted.
 */
int qcow2_write_bio(struct qcow2_request *rq, struct bio *bio, u64 start)
{
	struct qcow2_extent e;
	struct qcow2_part *p;
	int r;

	while (!READ_ONCE(rq->error) && rq->pos < rq->end) {
		p = qcow2_part_new(rq);
		r = qcow2_write_reserve(p, rq->pos, rq->end, true, true, &e);
		if (r)
			return r;
		write_data(p, bio, rq->pos - start, &e);
		rq->pos += e.len;
		qcow2_part_rw(p, true, e.store, e.host);
	}
	return 0;
}

/**
 * qcow2_write_buf() - begin to write a buffer
 * @p: a part with the buffer, which holds the guest cluster; taken over
 * @pos: guest offset in bytes
 * @end: where the write ends, in the same cluster
 *
 * Context: a worker. Return: 0 or a negative error, which is noted.
 */
int qcow2_write_buf(struct qcow2_part *p, u64 pos, u64 end)
{
	struct qcow2_extent e;
	int r = qcow2_write_reserve(p, pos, end, false, false, &e);

	if (r)
		return r;
	qcow2_store_use_vec(&p->sio, p->buf->bv, e.len);
	qcow2_part_rw(p, true, e.store, e.host);
	return 0;
}

/**
 * qcow2_write_zeros() - begin to write zeros, as data, from rq->pos on
 * @rq: the request; pos moves on
 * @end: where to stop
 *
 * Context: a worker. Return: as qcow2_write_bio().
 */
int qcow2_write_zeros(struct qcow2_request *rq, u64 end)
{
	struct qcow2_bufs *bufs = &rq->dev->image.bufs;
	struct qcow2_part *p = qcow2_part_new(rq);
	struct qcow2_extent e;
	u64 first;
	int r;

	r = qcow2_write_reserve(p, rq->pos, end, true, false, &e);
	if (r)
		return r;
	first = min(e.len, QCOW2_ZERO_BYTES);
	/* New clusters have to be filled before they are published. */
	if (p->change.l2)
		r = qcow2_store_fill_zero(e.store, bufs, e.host + first,
					  e.len - first, rq->how);
	else
		e.len = first;
	if (r) {
		qcow2_part_done(p, r);
		return r;
	}
	rq->pos += e.len;
	qcow2_store_use_vec(&p->sio, bufs->zero_bv, first);
	qcow2_part_rw(p, true, e.store, e.host);
	return 0;
}
