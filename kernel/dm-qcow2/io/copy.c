// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copies within the image, for blk-copy.
 *
 * A piece is a write like any other, whose bytes are copied inside the store
 * when the clusters they go to are there: in a file by sharing extents, by a
 * file system that copies by itself, or by hand; on a block device by its
 * driver. Zeros and what was never written become zeros. Clusters are not
 * shared: each keeps its own.
 *
 * Only while the table is live: before a suspend device-mapper has us pause,
 * which has pieces under way end. Who wants to copy waits for the resume, of
 * this table or of another.
 *
 * Takes no locks; what it calls does. The source is looked up with the range of
 * the destination held; that of the source is not, as for a read.
 */
#include "io.h"

#include <linux/sizes.h>

#include "../core/scope.h"

#define COPY_BYTES SZ_64M

/* What is copied before somebody is asked whether to go on. */
#define COPY_CHUNK SZ_1M

/**
 * struct copy_piece - a piece on its way
 * @rq: its request
 * @op: what blk-copy wants
 * @free_again: the range that was in the way is free
 * @idle: all parts are over
 */
struct copy_piece {
	struct qcow2_request rq;
	struct blk_copy_op *op;
	struct completion free_again;
	struct completion idle;
};

static void copy_go_on(struct qcow2_parked *p)
{
	complete(&container_of(p, struct copy_piece, rq.parked)->free_again);
}

static void copy_ended(struct qcow2_request *rq)
{
	complete(&container_of(rq, struct copy_piece, rq)->idle);
}

/* By sharing, by what is below, or by hand. */
static int copy_stored(struct qcow2_device *d, struct qcow2_span *s,
		       const struct copy_piece *c)
{
	u64 shared = qcow2_store_share(s);
	int r;

	if (shared == s->len)
		return 0;
	s->from += shared;
	s->to += shared;
	s->len -= shared;
	r = qcow2_store_copy(s, c->op);
	if (r != -EOPNOTSUPP)
		return r;
	return qcow2_store_copy_by_hand(s, &d->image.bufs, c->rq.how);
}

/*
 * Of an extent, the whole blocks; or the one of which it is a part, which has to
 * be read as the guest does.
 */
static u64 copy_whole_blocks(const struct qcow2_device *d, u64 len)
{
	return max_t(u64, round_down(len, d->map.align), d->map.align);
}

/* What cannot be copied as it is stored: by reading it as the guest does. */
static int copy_read(struct copy_piece *c, u64 from, struct qcow2_store *st,
		     u64 to, u64 len)
{
	struct qcow2_device *d = c->rq.dev;
	struct qcow2_buf *buf = qcow2_buf_get(&d->image.bufs, len,
					      QCOW2_BUF_COPY);
	int r;

	r = qcow2_align_fetch(&c->rq, from, len, buf);
	if (!r)
		r = qcow2_store_rw(st, true, to, buf->bv, 0, len, c->rq.how);
	qcow2_buf_put(&d->image.bufs, buf);
	return r;
}

/* A subcluster, or where an image below ends: more may follow in the block. */
static bool copy_is_part(const struct qcow2_device *d,
			 const struct qcow2_extent *e)
{
	return e->len < d->map.align;
}

/* Puts what the guest sees at @from to @to; sets @len to how much of it. */
static int copy_run(struct copy_piece *c, u64 from,
		    const struct qcow2_extent *to, u64 done, u64 *len)
{
	struct qcow2_device *d = c->rq.dev;
	struct qcow2_extent e;
	struct qcow2_span s;
	int r;

	r = qcow2_map_get(&d->map, from, *len, &e);
	if (r)
		return r;
	*len = copy_whole_blocks(d, e.len);
	if (e.kind == QCOW2_COMPRESSED || copy_is_part(d, &e)) {
		qcow2_map_put(&d->map, e.pin);
		*len = min_t(u64, *len, QCOW2_BUF_SIZE);
		return copy_read(c, from, to->store, to->host + done, *len);
	}
	if (e.kind == QCOW2_DATA) {
		s = (struct qcow2_span) {
			.src = e.store, .from = e.host, .dst = to->store,
			.to = to->host + done, .len = *len,
		};
		r = copy_stored(d, &s, c);
	} else {
		r = qcow2_store_fill_zero(to->store, &d->image.bufs,
					  to->host + done, *len, c->rq.how);
	}
	qcow2_map_put(&d->map, e.pin);
	return r;
}

/* Copies what the guest sees at @from to clusters that are ours. */
static int copy_guest(struct copy_piece *c, u64 from,
		      const struct qcow2_extent *to)
{
	u64 done, part;
	int r = 0;

	for (done = 0; !r && done < to->len; done += part) {
		if (blk_copy_cancelled(c->op))
			return -EINTR;
		part = min_t(u64, to->len - done, COPY_CHUNK);
		r = copy_run(c, from + done, to, done, &part);
	}
	return r;
}

/* Writes what can be written in one go; returns bytes. */
static s64 copy_write(struct copy_piece *c, u64 src, u64 dst, u64 len)
{
	/* Writes to these clusters wait for it. */
	u64 end = dst + min_t(u64, len, COPY_CHUNK);
	struct qcow2_device *d = c->rq.dev;
	struct qcow2_extent e;
	struct qcow2_part *p;
	int r;

	do {
		p = qcow2_part_new(&c->rq);
		/* It looks up its source, which it must not do within SRCU. */
		r = qcow2_write_reserve(p, dst, end, false, false, &e);
		if (r == QCOW2_PARKED)
			wait_for_completion(&c->free_again);
	} while (r == QCOW2_PARKED);
	if (r)
		return r;
	/* What is there already may end inside a block of an image below. */
	if (!p->change.l2)
		e.len = round_down(e.len, (u64)d->map.align);
	qcow2_part_done(p, copy_guest(c, src, &e));
	return e.len;
}

/*
 * Not as bios to our own disk: those may be sent elsewhere (blk-interposer), and
 * whoever has handed this piece on wants it done here.
 */
static s64 copy_zeros(struct copy_piece *c, u64 dst, u64 len)
{
	int r = 0;

	c->rq.pos = dst;
	c->rq.end = dst + len;
	while (r >= 0 && !READ_ONCE(c->rq.error) && c->rq.pos < c->rq.end) {
		r = qcow2_zero_step(&c->rq, QCOW2_ZERO_FREE);
		if (r == QCOW2_PARKED)
			wait_for_completion(&c->free_again);
	}
	return r < 0 ? r : (s64)len;
}

/* Waits for the parts that were begun; returns how they ended. */
static int copy_settle(struct copy_piece *c)
{
	qcow2_request_gone_through(&c->rq);
	qcow2_request_put(&c->rq);
	wait_for_completion(&c->idle);
	atomic_set(&c->rq.pending, 1);
	return c->rq.error;
}

static s64 copy_some(struct copy_piece *c)
{
	struct qcow2_device *d = c->rq.dev;
	u64 src = c->op->src + c->op->done, dst = c->op->dst + c->op->done;
	struct qcow2_extent e;
	s64 begun;
	bool reads;
	int r;

	if (READ_ONCE(d->core.mode) != QCOW2_MODE_RW)
		return -EIO;
	r = qcow2_map_get(&d->map, src, c->op->len - c->op->done, &e);
	if (r)
		return r;
	qcow2_map_put(&d->map, e.pin);
	reads = qcow2_extent_has_data(&e) || copy_is_part(d, &e);
	e.len = copy_whole_blocks(d, e.len);
	qcow2_record(&d->image, dst, e.len);
	begun = reads ? copy_write(c, src, dst, e.len) :
			copy_zeros(c, dst, e.len);
	return copy_settle(c) ?: begun;
}

static int copy_op_run(struct blk_copy_op *op)
{
	struct qcow2_device *d = op->private;
	struct copy_piece c = {
		/* blk-copy has the worker charge it to whom it is for. */
		.rq = {
			.dev = d,
			.how = { .flags = REQ_SYNC },
			/* A store that was suspended would hold up an undo. */
			.keep_space = d->store.bdev,
		},
		.op = op,
	};
	unsigned int scope = qcow2_scope_enter();
	s64 r = 0;

	qcow2_request_init(&c.rq, copy_go_on, copy_ended);
	init_completion(&c.free_again);
	init_completion(&c.idle);
	while (r >= 0 && op->done < op->len) {
		r = blk_copy_cancelled(op) ? -EINTR : copy_some(&c);
		if (r > 0)
			op->done += r;
		cond_resched();
	}
	if (r < 0 && r != -EINTR && r != BLK_COPY_AGAIN)
		qcow2_count_error(&d->core, r);
	qcow2_scope_leave(scope);
	return min_t(s64, r, 0);
}

static bool copy_is_inside(const struct qcow2_device *d, u64 pos, u64 len)
{
	u64 size = d->image.layer.geo.size;

	return len <= size && pos <= size - len;
}

/* Nothing is begun while the store is suspended: it would have to be undone. */
static int copy_possible(void *private, unsigned int depth)
{
	struct qcow2_device *d = private;
	struct block_device *bdev = qcow2_data(d)->bdev;
	const struct blk_copy_request req = { .src = bdev, .dst = bdev };

	return bdev ? blk_copy_possible(&req, depth) : 1;
}

static int copy_op(struct blk_copy_op *op)
{
	struct qcow2_device *d = op->private;
	int possible;

	/* There are no entries in the tables for what is beyond. */
	if (!copy_is_inside(d, op->src, op->len) ||
	    !copy_is_inside(d, op->dst, op->len))
		return -EIO;
	/* Without help from below, reading and writing is what is left. */
	possible = copy_possible(d, op->depth + 1);
	if (possible <= 0)
		return possible ?: -EOPNOTSUPP;
	return blk_copy_call(op, copy_op_run);
}

static const struct blk_copy_ops copy_ops = {
	.name = "dm-qcow2",
	.copy = copy_op,
	.possible = copy_possible,
};

/**
 * qcow2_copy_register() - tell blk-copy of an image that is about to be live
 * @d: the device, opened
 *
 * Return: 0 or a negative error.
 */
int qcow2_copy_register(struct qcow2_device *d)
{
	struct blk_copy_limits lim = {
		.max_bytes = COPY_BYTES,
		.granularity = max_t(u32, SECTOR_SIZE, d->map.align),
		.optimal = qcow2_cluster(&d->image.layer),
		.private = d,
	};
	struct blk_copy_provider *p;

	if (d->store.read_only)
		return 0;
	p = blk_copy_register_idle(dm_disk(dm_table_get_md(d->core.ti->table)),
				   &copy_ops, &lim);
	if (IS_ERR(p))
		return PTR_ERR(p);
	d->copy = p;
	return 0;
}

/**
 * qcow2_copy_unregister() - undo qcow2_copy_register()
 * @d: the device, not live
 */
void qcow2_copy_unregister(struct qcow2_device *d)
{
	if (d->copy)
		blk_copy_unregister(d->copy);
	d->copy = NULL;
}
