// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a bio or a copy has under way: it is gone through part by part. Parts
 * are done asynchronously; the request ends with the last of them.
 *
 * Takes no locks; what it calls does.
 */
#include "io.h"

/**
 * qcow2_request_init() - begin to go through a request
 * @rq: the request; its state of before is overwritten, but for @dev, @error,
 *	@pos, @end, @how and @keep_space, which the caller sets
 * @go_on: called when guest clusters it was parked for are free
 * @ended: called when nothing of it is pending
 */
void qcow2_request_init(struct qcow2_request *rq,
			void (*go_on)(struct qcow2_parked *p),
			void (*ended)(struct qcow2_request *rq))
{
	atomic_set(&rq->pending, 1);
	rq->parked.go_on = go_on;
	rq->parked.reserved = false;
	rq->ended = ended;
}

/**
 * qcow2_request_error() - note that a part of a request failed
 * @rq: the request
 * @err: 0 or a negative error; the first one counts
 */
void qcow2_request_error(struct qcow2_request *rq, int err)
{
	if (err)
		cmpxchg(&rq->error, 0, err);
}

/**
 * qcow2_request_gone_through() - a request has been gone through, or gave up
 * @rq: the request, which is not parked
 *
 * Others have their turn. Context: any.
 */
void qcow2_request_gone_through(struct qcow2_request *rq)
{
	qcow2_range_give_up(&rq->dev->map.ranges, &rq->parked);
}

/**
 * qcow2_request_put() - a part of a request is done, or going through it is
 * @rq: the request
 *
 * Context: any.
 */
void qcow2_request_put(struct qcow2_request *rq)
{
	if (atomic_dec_and_test(&rq->pending))
		rq->ended(rq);
}

/**
 * qcow2_part_new() - begin a part of a request
 * @rq: the request
 *
 * Context: a worker that does not hold image.srcu; waits for other parts to end
 * if memory is short.
 * Return: the part, never NULL.
 */
struct qcow2_part *qcow2_part_new(struct qcow2_request *rq)
{
	struct qcow2_part *p = mempool_alloc(&rq->dev->parts, GFP_NOIO);

	memset(p, 0, sizeof(*p));
	p->rq = rq;
	p->pin = -1;
	qcow2_change_init(&p->change, &rq->dev->map);
	p->change.keep_space = rq->keep_space;
	atomic_inc(&rq->pending);
	return p;
}

/**
 * qcow2_part_end() - end a part of a request, whatever it holds
 * @p: the part; gone afterwards
 *
 * The request may end with it. Context: any.
 */
void qcow2_part_end(struct qcow2_part *p)
{
	struct qcow2_request *rq = p->rq;
	struct qcow2_device *d = rq->dev;

	qcow2_map_put(&d->map, p->pin);
	qcow2_change_end(&p->change);
	if (p->buf)
		qcow2_buf_put(&d->image.bufs, p->buf);
	mempool_free(p, &d->parts);
	qcow2_request_put(rq);
}

static void request_undone(struct qcow2_change *c)
{
	qcow2_part_end(container_of(c, struct qcow2_part, change));
}

/*
 * Of a data file no space is reserved by which it would be noticed that there is
 * some again, but by a write to where there was nothing; to a raw one, by any.
 */
static void request_has_space(struct qcow2_part *p, int err)
{
	struct qcow2_device *d = p->rq->dev;
	const struct qcow2_layer *l = &d->image.layer;

	if (err || !p->sio.write || !qcow2_external(l) ||
	    !READ_ONCE(d->core.enospc))
		return;
	if (p->change.l2 || qcow2_identity(l))
		WRITE_ONCE(d->core.enospc, false);
}

/**
 * qcow2_part_done() - the I/O of a part is over
 * @p: the part; gone afterwards
 * @err: 0 or a negative error
 *
 * Context: any.
 */
void qcow2_part_done(struct qcow2_part *p, int err)
{
	qcow2_request_error(p->rq, err);
	if (err && p->change.allocated) {
		qcow2_map_abort(&p->change, request_undone);
		return;
	}
	request_has_space(p, err);
	if (!err)
		qcow2_map_publish(&p->change);
	qcow2_part_end(p);
}

static void request_io_done(struct qcow2_store_io *sio, int err)
{
	qcow2_part_done(container_of(sio, struct qcow2_part, sio), err);
}

/**
 * qcow2_part_rw() - do the I/O of a part
 * @p: the part, with sio.bv and sio.bv_iter set; gone when it is done
 * @write: direction
 * @st: the store
 * @host: byte offset in it
 *
 * Context: a worker.
 */
void qcow2_part_rw(struct qcow2_part *p, bool write, struct qcow2_store *st,
		   u64 host)
{
	p->sio.store = st;
	p->sio.done = request_io_done;
	p->sio.pos = host;
	p->sio.write = write;
	p->sio.how = p->rq->how;
	qcow2_store_submit(&p->sio);
}
